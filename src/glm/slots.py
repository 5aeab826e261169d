"""Write results into an object's slots, all or none, with a record of how they were made."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

Slot = tuple[str, str]
"""Attribute of the object and name in it, for example ``("obsm", "X_geneformer")``."""

_MARK = "glm_version"
_ABSENT = object()


def make_record(**facts: Any) -> dict[str, Any]:
    """A record of plain values that h5ad and zarr can hold."""
    from . import __version__

    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {_MARK: __version__, "written": made, **_storable(plain(facts))}


def _storable(value: Any) -> Any:
    """The same with names that files can hold: a slash would part a name into folders there."""
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, inner in value.items():
        safe = name.replace("/", "_")
        while safe in found or (safe != name and safe in value):
            safe += "_"
        found[safe] = _storable(inner)
    return found


def plain(value: Any) -> Any:
    """Turn a value into text, a number, a truth value, or lists and dicts of them."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        listed = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return [plain(inner) for inner in listed]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"A record cannot hold a {type(value).__name__}: {value!r}.")


def check_free(
    adata: AnnData,
    slots: list[Slot],
    record_key: str,
    *,
    model: str,
    overwrite: bool,
    weights_sha256: str | None = None,
    way: str = "Pass another key_added, or overwrite=True to replace it.",
) -> None:
    """Refuse slots that hold something other than an earlier result of the same model.

    The name tells; and, where they are known, the weights, since folders of different models may
    have the same name. ``way`` is what a message says can be done.

    Raises
    ------
    ValueError
        If a slot is the user's own or another model's and ``overwrite`` is false.
    """
    if overwrite:
        return
    record = adata.uns.get(record_key)
    ours = _is_ours(record)
    written = _written_with(record)
    for slot in [*slots, ("uns", record_key)]:
        attribute, name = slot
        if name not in getattr(adata, attribute):
            continue
        mine = ours if attribute == "uns" else slot in written
        if mine and record["model"] == model:
            there = record.get("weights_sha256")
            if not _are_others(there, weights_sha256):
                continue
            holds = f"the result of other weights that were called {model} too (sha256 {there})"
        else:
            holds = f"the result of {record['model']}" if mine else "something glm did not write"
        raise ValueError(f"adata.{attribute}[{name!r}] already holds {holds}. {way}")


def write(
    adata: AnnData, values: Mapping[Slot, Any], record_key: str, record: Mapping[str, Any]
) -> None:
    """Set every slot and the record; on any failure put back what was there.

    What an earlier call wrote with the same record and this one does not (of groups that are no
    more) goes with it, so that every result has its record. A view becomes an object of its own
    first, as everywhere in AnnData.
    """
    from anndata import ImplicitModificationWarning

    named = [f"{attribute}/{name}" for attribute, name in values]
    everything = {**values, ("uns", record_key): {**record, "slots": named}}
    with warnings.catch_warnings():
        # Writing into a view copies it and says so; the user asked for exactly that.
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        orphans = _written_with(adata.uns.get(record_key)) - everything.keys()
        before = {slot: _get(adata, slot) for slot in [*everything, *orphans]}
        done: list[Slot] = []
        try:
            for slot, value in everything.items():
                done.append(slot)
                getattr(adata, slot[0])[slot[1]] = value
            for slot in orphans:
                done.append(slot)
                _restore(adata, slot, _ABSENT)
        except BaseException:
            for slot in done:
                _restore(adata, slot, before[slot])
            raise


@contextmanager
def keeping(result: Any, folder: Path | None = None) -> Iterator[None]:
    """Hand a computed result over with the error, where writing it fails.

    It took hours perhaps. A notebook finds it in ``sys.last_value.result``.
    """
    try:
        yield
    except Exception as error:
        error.result = result  # type: ignore[attr-defined]
        where = f" and in {folder}" if folder is not None else ""
        error.add_note(
            f"The result was computed and is not lost: it is this error's .result{where}."
        )
        raise


def _are_others(there: str | None, here: str | None) -> bool:
    """Whether two hashes of weights are known and differ; weights without a file have none."""
    return there != here and not {there, here} & {None, "unsaved"}


def _is_ours(record: Any) -> bool:
    return isinstance(record, Mapping) and _MARK in record


def _written_with(record: Any) -> set[Slot]:
    """The slots that a record lists; none of what is no record of ours."""
    listed = record.get("slots", []) if _is_ours(record) else []
    return {(str(path).partition("/")[0], str(path).partition("/")[2]) for path in listed}


def _get(adata: AnnData, slot: Slot) -> Any:
    holder = getattr(adata, slot[0])
    return holder[slot[1]] if slot[1] in holder else _ABSENT


def _restore(adata: AnnData, slot: Slot, value: Any) -> None:
    holder = getattr(adata, slot[0])
    if value is not _ABSENT:
        holder[slot[1]] = value
    elif slot[1] in holder:
        del holder[slot[1]]
