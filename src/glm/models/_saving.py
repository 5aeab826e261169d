"""What writing a model into a folder needs, whatever the layout."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._atomic import name_beside

if TYPE_CHECKING:
    from torch import Tensor

    from .spec import ModelSpec
    from .weights import Network


@contextmanager
def written_together(folder: Path, names: list[str]) -> Iterator[dict[str, Path]]:
    """Paths to write to, which take the places of the named files once all of them are whole."""
    beside = {name: name_beside(folder / name) for name in names}
    try:
        yield beside
        for path in beside.values():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        for name, path in beside.items():
            os.replace(path, folder / name)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def write_json(path: Path, content: object, indent: int | None = None) -> None:
    """Write plain values as JSON that any reader takes."""
    path.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: numbers and names, ``None`` for what is not a number."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(
        f"a {type(value).__name__} cannot be kept as JSON: expected numbers, names, lists and "
        "dictionaries of them."
    )


def state_to_save(spec: ModelSpec, network: Network, *, half: bool = False) -> dict[str, Tensor]:
    """A network's weights under their published names, if they are fit to be saved.

    Raises
    ------
    RuntimeError
        If weights are not finite, or classes are not named each once: nobody could load it.
    """
    from .weights import refuse_not_finite, to_published

    check_labels(spec, network)
    if len(set(spec.labels)) < len(spec.labels):
        repeated = sorted({name for name in spec.labels if spec.labels.count(name) > 1})
        raise RuntimeError(f"{spec.name} has classes of the same name: {', '.join(repeated)}.")
    state = to_published(network)
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    refuse_not_finite(state)
    return state


def check_labels(spec: ModelSpec, network: Network) -> None:
    """Refuse names of classes that are not as many as the classes."""
    from .heads import Classifier

    if not spec.labels or not isinstance(network, Classifier):
        return
    n_classes = network.classifier.out_features
    if len(spec.labels) != n_classes:
        raise RuntimeError(
            f"{spec.name} names {len(spec.labels)} classes in its config.json, but its weights "
            f"tell {n_classes} apart: the two do not belong together."
        )
