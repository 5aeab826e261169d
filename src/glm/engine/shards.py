"""The work folder of a long run: shards, a manifest, and the finished result.

::

    out/
      manifest.json        what was asked for, of what data, and whether it is finished
      shards/000012.npz    a part of the work, done: whole rows, or a reducer's state
      shards/000013.part   a part that was begun: the state so far, and how far that is
      embedding.npy        the finished result; the shards are gone once it is here

Every file is written beside its place, flushed to the disk, and renamed: whatever kills the process
at whatever moment, each is whole or absent. Of two runs of the same call at once, the slower one
takes the other's result.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._atomic import replacing

State = dict[str, np.ndarray]

_MANIFEST = "manifest.json"
_FORMAT = "glm work folder 1"
_HASH = re.compile("[0-9a-f]{64}")
_SHOWN_OF_A_HASH = 12


@dataclass(frozen=True)
class Saved:
    """What a file of a shard holds.

    Attributes
    ----------
    state
        The reducer's state.
    place
        Block, and items of it, up to which the state goes.
    budget
        Token budget then.
    """

    state: State
    place: tuple[int, int]
    budget: int


def read_facts(path: Path) -> dict[str, Any] | None:
    """What the run in a folder was asked for, ``None`` where there is no folder or nothing in it.

    Raises
    ------
    ValueError
        If the path holds something that is no work folder.
    """
    manifest = _read_manifest(path)
    return None if manifest is None else manifest["facts"]


class WorkFolder:
    """The folder of one run; made where it is not there.

    Parameters
    ----------
    path
        The folder.
    facts
        Everything the result depends on, as plain values.

    Attributes
    ----------
    path
        The folder.
    facts
        The same, as they are written.

    Raises
    ------
    ValueError
        If the folder holds a run of other facts, or anything else.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.facts: dict[str, Any] = json.loads(json.dumps(facts, default=np.generic.item))
        manifest = _read_manifest(path)
        if manifest is None:
            path.mkdir(parents=True, exist_ok=True)
            self._write_manifest(complete=False, keep=True)
            manifest = _read_manifest(path)  # of two runs that begin at once, the first one's
        if manifest is not None:
            _check_same(path, manifest["facts"], self.facts)

    def is_complete(self, name: str) -> bool:
        """Whether the finished result is there, in the file ``name``."""
        manifest = _read_manifest(self.path)
        whole = manifest is not None and bool(manifest["complete"])
        return whole and self.result(name).is_file()

    def shard_bytes(self) -> int:
        """Bytes that shards take on the disk, begun ones too."""
        return sum(file.stat().st_size for file in (self.path / "shards").glob("*"))

    def has(self, number: int) -> bool:
        """Whether a shard is done."""
        return self._shard(number).is_file()

    def write(self, number: int, saved: Saved) -> None:
        """Keep a shard that is done."""
        self._write(self._shard(number), saved)
        self._part(number).unlink(missing_ok=True)

    def write_part(self, number: int, saved: Saved) -> None:
        """Keep a shard that is begun."""
        self._write(self._part(number), saved)

    def read(self, number: int) -> Saved:
        """A shard that is done."""
        return _read(self._shard(number))

    def budget(self, number: int) -> int:
        """The token budget with which a shard ended."""
        return _read(self._shard(number), only=("place", "budget")).budget

    def read_part(self, number: int) -> Saved | None:
        """A shard that was begun, ``None`` where there is no such."""
        path = self._part(number)
        return _read(path) if path.is_file() else None

    def states(self, n_shards: int) -> Iterator[State]:
        """The states of all shards, in order."""
        for number in range(n_shards):
            yield self.read(number).state

    def result(self, name: str) -> Path:
        """Where a file of the finished result lies."""
        return self.path / name

    def finish(self, name: str, write: Callable[[Path], None]) -> None:
        """Let ``write`` make the result, which is then complete."""
        for left in self.path.glob(".*.tmp"):  # of a process that was killed
            left.unlink(missing_ok=True)
        with replacing(self.result(name)) as beside:
            write(beside)
        self._write_manifest(complete=True)

    def drop_shards(self) -> None:
        """Let go of the shards, which a finished result needs no more."""
        shutil.rmtree(self.path / "shards", ignore_errors=True)

    def _shard(self, number: int) -> Path:
        return self.path / "shards" / f"{number:06d}.npz"

    def _part(self, number: int) -> Path:
        return self._shard(number).with_suffix(".part")

    def _write(self, path: Path, saved: Saved) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {
            "place": np.array(saved.place),
            "budget": np.array(saved.budget),
            "names": np.array(sorted(saved.state), dtype=str),  # the archive guards contents only
        }
        arrays = {f"state.{name}": array for name, array in saved.state.items()}
        with replacing(path) as beside, open(beside, "wb") as file:
            np.savez(file, **numbers, **arrays)  # type: ignore[arg-type]

    def _write_manifest(self, *, complete: bool, keep: bool = False) -> None:
        from .. import __version__

        content = {
            "format": _FORMAT,
            "glm_version": __version__,
            "complete": complete,
            "facts": self.facts,
        }
        with replacing(self.path / _MANIFEST, keep=keep) as beside:
            beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read(path: Path, only: tuple[str, ...] = ()) -> Saved:
    with path.open("rb") as stream:
        try:
            with np.load(stream) as file:
                arrays = {name: file[name] for name in only or file.files}
            block, done = arrays.pop("place").tolist()
            budget = int(arrays.pop("budget"))
            names = [] if only else arrays.pop("names").tolist()
            state = {name.removeprefix("state."): array for name, array in arrays.items()}
            if sorted(state) != names:
                raise ValueError(f"it holds {', '.join(state)}, not {', '.join(names)}")
        except MemoryError:
            raise
        except Exception as error:  # damage meets whichever step comes first
            raise OSError(
                f"{path} is damaged ({error}): the disk may have lost it. Delete this one file and "
                "run the same call again; only it is computed anew."
            ) from error
    return Saved(state, (block, done), budget)


def _read_manifest(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    if not path.is_dir():
        raise ValueError(
            f"out={str(path)!r} is a file. Long runs write into a folder: name one that is not "
            "there yet, or that an earlier run of the same call left."
        )
    manifest = path / _MANIFEST
    if not manifest.is_file():
        others = any(not entry.name.startswith(f".{_MANIFEST}") for entry in path.iterdir())
        # Looked for again: another process of the same run may have made it between the two looks.
        if others and not manifest.is_file():
            raise ValueError(
                f"out={str(path)!r} is a folder that holds something else: it has no {_MANIFEST}. "
                "Name a new or an empty one."
            )
        if not others:
            return None
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{manifest} cannot be read ({error}). Name another folder.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(
            f"{manifest} is not of a work folder that this version of glm writes. Name another."
        )
    return content


def _check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    names = [*here, *(name for name in there if name not in here)]
    differ = [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in names
        if there.get(name) != here.get(name)
    ]
    if differ:
        raise ValueError(
            f"out={str(path)!r} holds another run: {'; '.join(differ)}. Repeat that call, name "
            "another folder, or delete this one."
        )


def _short(value: Any) -> str:
    """A value in a message: of a hash its beginning, which is enough to see that it differs."""
    if isinstance(value, str) and _HASH.fullmatch(value):
        return f"{value[:_SHOWN_OF_A_HASH]}…"
    return repr(value)
