"""What tracks are read from: objects with bins in rows or in a slot, arrays, bigWig files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .._messages import first_names, share
from ..regions import is_whole
from ._track_view import Bins, View, read_view


@dataclass(frozen=True)
class Entry:
    """A track: where its source has it, the names it goes by, and what is written beside it."""

    source: Source
    place: Any
    names: tuple[str, ...]
    assay: str = ""
    sample: str = ""

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def label(self) -> str:
        return f"{self.assay}\n{self.sample}".strip() or self.name

    def read(self, view: View, like: Bins | None = None) -> Bins:
        """The bins that reach into a view; a file's, if asked, are those of another signal.

        Raises
        ------
        ValueError
            If there are none, or a value is infinite.
        """
        found = self.source.read(self, view, like).within(view)
        if np.isinf(found.values).any():
            raise ValueError(
                f"{share(int(np.isinf(found.values).sum()), found.values.size)} values of track "
                f"{self.name!r} in {view} are infinite: there is no axis for them. Make them NaN, "
                "which is drawn as a gap."
            )
        return found


class Source(Protocol):
    """Something that has tracks."""

    entries: list[Entry]
    genome: str | None

    @property
    def extent(self) -> View: ...

    def read(self, entry: Entry, view: View, like: Bins | None) -> Bins: ...


def open_source(
    data: Any, region: Any, cover: View | None, *, key: str, axis: str | None, what: str
) -> Source:
    """The source that an object, or a dict of arrays and files, makes.

    ``cover`` is what another source covers, in place of ``region``; not for rows of a slot, which
    the region names.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it has no tracks, or none there.
    """
    from anndata import AnnData

    if isinstance(data, AnnData):
        from ._track_objects import open_object

        return open_object(data, region, cover, key=key, axis=axis)
    if isinstance(data, Mapping):
        return NamedSource.of(data, cover or region, what)
    raise TypeError(
        f"{what} is a {type(data).__name__}; expected an AnnData with tracks, a dict of a name and "
        "an array of bins or the path of a bigWig each"
        + (", or a list of such." if what == "data" else ".")
    )


# ---- arrays and files ----------------------------------------------------------------------------


class NamedSource:
    """Arrays whose bins share a region out evenly, and bigWig files, by name."""

    genome: str | None = None

    def __init__(self, entries: list[Entry], extent: View) -> None:
        self.entries = [replace(entry, source=self) for entry in entries]
        self._extent = extent

    @classmethod
    def of(cls, data: Mapping[Any, Any], region: Any, what: str) -> NamedSource:
        if not data:
            raise ValueError(f"{what} is an empty dict: there are no tracks to draw.")
        if region is None:
            raise ValueError(
                f"{what} is a dict, whose arrays do not say where they lie: pass region=(chrom, "
                "start, end), the stretch that they cover."
            )
        view = read_view(region, "region")
        none: Any = None
        entries = [
            Entry(none, _array_or_path(value, view, str(name)), (str(name),))
            for name, value in data.items()
        ]
        return cls(entries, view)

    @property
    def extent(self) -> View:
        return self._extent

    def read(self, entry: Entry, view: View, like: Bins | None) -> Bins:
        if isinstance(entry.place, Path):
            return _read_file(entry.place, view, like)
        values = entry.place
        return Bins.even(self._extent.start, self._extent.length // len(values), values)


def _array_or_path(value: Any, view: View, name: str) -> Any:
    """The path of a file, or float64, a value a bin of ``view``."""
    if isinstance(value, str | os.PathLike):
        path = Path(value).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"There is no file {str(path)!r}, the bigWig of {name!r}.")
        return path
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        raise TypeError(
            f"Track {name!r} is {type(value).__name__} of {found.dtype}; expected numbers, one a "
            "bin, or the path of a bigWig."
        )
    if found.ndim != 1:
        raise ValueError(
            f"Track {name!r} is an array of shape {found.shape}; expected one value a bin. Give "
            "each track of a bins × tracks array a name of its own."
        )
    if not found.size or view.length % found.size:
        raise ValueError(
            f"Track {name!r} has {found.size:,} bins, which do not share out the {view.length:,} "
            f"bp of {view} evenly. Pass the region that the bins cover as region=, and the part "
            "that is to be drawn as zoom=."
        )
    return found.astype(np.float64)


# Bases that are read one by one: beyond, bins of a file are averages over a few bases.
_MOST_BASES = 4_000_000


def _read_file(path: Path, view: View, like: Bins | None) -> Bins:
    """A bigWig's values: single bases, or means over the bins of another signal."""
    from ..io import read_bigwig

    if like is None or not like.start.size:
        bin_bp = -(-view.length // _MOST_BASES)
        end = view.start + -(-view.length // bin_bp) * bin_bp
        place = (view.chrom, view.start, end)
        return Bins.even(view.start, bin_bp, read_bigwig(path, place, bin_bp=bin_bp))
    first, bin_bp = int(like.start[0]), int(like.end[0] - like.start[0])
    number, beside = np.divmod(like.start - first, bin_bp)
    if (like.end - like.start != bin_bp).any() or beside.any():
        raise ValueError(
            f"{path} cannot be compared with bins of several lengths, or whose gaps are no whole "
            "number of bins. Read it with glm.io.read_bigwig, and pass the array."
        )
    place = (view.chrom, first, int(like.end[-1]))
    values = read_bigwig(path, place, bin_bp=bin_bp)[number].astype(np.float64)
    return Bins(like.start, like.end, values)


# ---- choosing among tracks -----------------------------------------------------------------------


def choose(entries: Sequence[Entry], tracks: Any) -> list[Entry]:
    """The entries that are meant by places, names, or an assay and words of the sample.

    Raises
    ------
    KeyError
        If there is none such.
    """
    if tracks is None:
        return list(entries)
    wanted = [tracks] if isinstance(tracks, str) or np.ndim(tracks) == 0 else list(tracks)
    if not wanted:
        raise ValueError("tracks is empty: there is nothing to draw. None draws all tracks.")
    chosen: dict[int, Entry] = {}
    for one in wanted:
        chosen.update((id(entry), entry) for entry in _meant(entries, one))
    return list(chosen.values())


def _meant(entries: Sequence[Entry], wanted: Any) -> list[Entry]:
    if is_whole(wanted):
        if not 0 <= int(wanted) < len(entries):
            raise KeyError(f"There is no track {int(wanted)}; there are {len(entries):,}, from 0.")
        return [entries[int(wanted)]]
    text = str(wanted)
    found = [entry for entry in entries if text in entry.names]
    if not found:
        assay, _, rest = text.partition(":")
        words = _words(rest)
        found = [
            entry
            for entry in entries
            if assay.strip().casefold() in (entry.assay.casefold(), "")
            and words <= _words(entry.sample)
            and (words or assay.strip())
        ]
    if not found:
        there = first_names(entry.name for entry in entries)
        assays = sorted({entry.assay for entry in entries} - {""})
        raise KeyError(
            f"There is no track {text!r}; there are {there}"
            + (f", of the assays {first_names(assays, 6)}" if assays else "")
            + ". Expected a track's name or place, or an assay and words of its sample, as in "
            "'CAGE:heart'."
        )
    return found


def _words(text: str) -> set[str]:
    """Words of a sample's name, without the s of a plural, as models' tables are searched."""
    return {re.sub(r"(?<=\w{3})(?<!s)s$", "", w) for w in re.findall(r"[^\W_]+", text.casefold())}


def partners(chosen: Sequence[Entry], all_of: Sequence[Entry], other: Source) -> list[Entry | None]:
    """For each chosen track the one of the same name in another source, where there is one.

    Raises
    ------
    KeyError
        If there is none for any, or a named array or file goes with none of all the tracks.
    """
    by_name = {name: entry for entry in reversed(other.entries) for name in entry.names}
    if isinstance(other, NamedSource):
        known = {name for entry in all_of for name in entry.names}
        lost = [entry.name for entry in other.entries if entry.name not in known]
        if lost:
            raise KeyError(
                f"compare has {first_names(map(repr, lost))}, and there is no such track; there "
                f"are {first_names(entry.name for entry in all_of)}. Name what is compared as the "
                "track it is compared with."
            )
    found = [
        next((by_name[name] for name in entry.names if name in by_name), None) for entry in chosen
    ]
    if not any(found):
        raise KeyError(
            f"compare has none of the tracks {first_names(entry.name for entry in chosen)}; it has "
            f"{first_names(entry.name for entry in other.entries)}."
        )
    return found
