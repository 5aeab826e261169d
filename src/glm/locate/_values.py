"""Values of columns to chromosomes, positions and strands; which rows have none, or wrong ones.

Each distinct value is looked at once where values repeat. Errors name the row, from 0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._messages import share

if TYPE_CHECKING:
    from collections.abc import Sequence

MISSING = frozenset({"", ".", "na", "n/a", "nan", "none", "null", "<na>"})
STRANDS = {"+": 1, "-": -1, ".": 0, "*": 0, "1": 1, "+1": 1, "-1": -1, "0": 0}
"""What is written for a strand, and what it means; ``*`` is Bioconductor's ``.``."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,15}")
_N = r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,15})"
_REGION = re.compile(
    rf"(\S*?[^\s:_-])(?::{_N}-{_N}|-{_N}-{_N}|_{_N}_{_N})(?:\(([+.*-])\)|:([+.*-]))?"
)

# In names, chr1-10-20 and chr1_10_20 are taken for regions only where the first part is one of
# these: AAACCTGA-1-2 and plate_1_12 are cells.
_CHROMOSOME = re.compile(
    r"chr.+|[0-9]{1,2}[LR]?|[XYWZM]|MT|[IVX]+|[A-Z]{1,4}_?[0-9]{5,}(\.[0-9]+)?"
    r"|(scaffold|contig|group|lg)[\w.]*",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Places:
    """Coordinates of some rows: ``there`` tells which have any, the others' values mean nothing."""

    chrom: NDArray[Any]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    strand: NDArray[np.int8]
    there: NDArray[np.bool_]


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: NaN, None, NA, or a text such as ``NA`` or nothing."""
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return True
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def is_region(value: Any) -> bool:
    """Whether a value is a text that names a region."""
    return isinstance(value, str) and _REGION.fullmatch(value.strip()) is not None


def _distinct(values: Any) -> tuple[NDArray[np.intp], list[Any]]:
    """Which of the distinct values each one is, -1 where pandas sees none; and those values."""
    import pandas as pd

    series = values if isinstance(values, pd.Series) else pd.Series(values)
    if isinstance(series.dtype, pd.CategoricalDtype):
        return np.asarray(series.cat.codes, np.intp), list(series.cat.categories)
    codes, found = pd.factorize(series)
    return np.asarray(codes, np.intp), list(found)


def _looked_up(codes: NDArray[np.intp], found: list[Any], nothing: Any, dtype: Any) -> NDArray[Any]:
    table = np.empty(len(found) + 1, dtype)
    table[:-1] = found
    table[-1] = nothing
    return table[codes]


def chromosomes(values: Any, what: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Names of chromosomes as text, and which rows have one.

    A number is its name: 1 and 1.0 are ``"1"``.

    Raises
    ------
    ValueError
        If a value is neither text nor a whole number.
    """
    codes, found = _distinct(values)
    names: list[str] = []
    for i, value in enumerate(found):
        if is_missing(value):
            names.append("")
        elif isinstance(value, str):
            names.append(value.strip())
        elif (number := _whole(value)) is not None:
            names.append(str(number))
        elif (rows := np.flatnonzero(codes == i)).size:
            raise ValueError(
                f"{what} is {value!r} in row {int(rows[0]):,}; expected names of chromosomes."
            )
        else:
            names.append("")  # a category that no row has
    chrom = _looked_up(codes, names, "", object)
    return chrom, chrom != ""


def positions(values: Any, what: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Positions as int64, and which rows have one.

    Raises
    ------
    ValueError
        If a value is no whole number, or is kept in so few bits that it was rounded.
    """
    import pandas as pd

    series = values if isinstance(values, pd.Series) else pd.Series(values)
    kind = series.dtype
    if pd.api.types.is_bool_dtype(kind) and not pd.api.types.is_object_dtype(kind):
        raise ValueError(f"{what} holds true and false; expected positions, whole numbers.")
    if pd.api.types.is_integer_dtype(kind):
        there = series.notna().to_numpy()
        return series.fillna(0).to_numpy(np.int64), there
    if pd.api.types.is_float_dtype(kind):
        numbers = series.to_numpy(np.float64, na_value=np.nan)
        return _from_floats(numbers, np.dtype(getattr(kind, "numpy_dtype", kind)), what)
    codes, found = _distinct(series)
    read = [_position(value) for value in found]
    wrong = [i for i, number in enumerate(read) if isinstance(number, str)]
    bad = np.flatnonzero(np.isin(codes, wrong))
    if bad.size:
        raise _not_whole(what, found[codes[bad[0]]], bad, len(codes))
    numbers = _looked_up(codes, [0 if n is None else n for n in read], 0, np.int64)
    return numbers, _looked_up(codes, [n is not None for n in read], False, bool)


def _from_floats(
    numbers: NDArray[np.float64], kind: np.dtype, what: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    there = ~np.isnan(numbers)
    exact = 2.0 ** min(np.finfo(kind).nmant + 1, 53)
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(there & ~(numbers % 1 == 0))
    if bad.size:
        raise _not_whole(what, float(numbers[bad[0]]), bad, len(numbers))
    large = np.flatnonzero(there & (np.abs(numbers) > exact))
    if large.size:
        raise ValueError(
            f"{what} is of {kind}, which holds whole numbers up to {int(exact):,} only; row "
            f"{int(large[0]):,} is {numbers[large[0]]:.0f} and may have been rounded. Read the "
            "positions again, as int64."
        )
    return np.where(there, numbers, 0).astype(np.int64), there


def _position(value: Any) -> int | str | None:
    """A whole number, ``None`` for a missing one, a text for anything else."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return int(value) if _WHOLE.fullmatch(value.strip()) else "wrong"
    number = _whole(value)
    return "wrong" if number is None or abs(number) >= 10**15 else number


def _whole(value: Any) -> int | None:
    """The whole number that a number is; ``None`` for 1.5, infinity, True, what is no number."""
    is_number = isinstance(value, int | float | np.integer | np.floating)
    if not is_number or isinstance(value, bool):
        return None
    return int(value) if np.isfinite(value) and value % 1 == 0 else None


def _not_whole(what: str, value: Any, rows: NDArray[np.intp], n: int) -> ValueError:
    rounded = isinstance(value, str) and re.fullmatch(r"[0-9.]+[eE][+-]?[0-9]+", value.strip())
    why = " R writes 100000 as 1e+05: write positions in full." if rounded else ""
    return ValueError(
        f"{what} is not a whole number in {share(rows.size, n)} rows, first row {int(rows[0]):,}: "
        f"{value!r}. Expected positions, 0-based; rows without a region may be missing (NaN).{why}"
    )


def strands(values: Any, what: str) -> NDArray[np.int8]:
    """int8: 1 for ``+``, -1 for ``-``, 0 for ``.``, ``*`` and what is missing.

    Raises
    ------
    ValueError
        If a value is anything else.
    """
    codes, found = _distinct(values)
    read = [0 if is_missing(value) else STRANDS.get(_sign(value)) for value in found]
    bad = np.flatnonzero(np.isin(codes, [i for i, strand in enumerate(read) if strand is None]))
    if bad.size:
        raise ValueError(
            f"{what} is {found[codes[bad[0]]]!r} in row {int(bad[0]):,} "
            f"({share(bad.size, len(codes))} rows hold no strand); expected '+', '-', '.', '*', 1, "
            "-1, 0, or a missing value."
        )
    return _looked_up(codes, [strand or 0 for strand in read], 0, np.int8)


def _sign(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    number = _whole(value)
    return "?" if number is None else str(number)


def regions_in(texts: Sequence[Any], what: str) -> Places:
    """Coordinates in texts, all of which name a region or are missing.

    Raises
    ------
    ValueError
        If one does neither.
    """
    places, bad = _parse(texts, strict=False)
    if bad.size:
        raise ValueError(
            f"{share(bad.size, len(places.there))} entries of {what} are no regions, first row "
            f"{int(bad[0]):,}: {texts[int(bad[0])]!r}. Expected chr1:1000-2000 (or chr1-1000-2000, "
            "chr1_1000_2000; 0-based and half-open), or NA where there is none."
        )
    return places


def regions_among(names: Sequence[Any]) -> Places:
    """Coordinates in names; those that are no regions' names have none."""
    return _parse(names, strict=True)[0]


def _parse(texts: Sequence[Any], *, strict: bool) -> tuple[Places, NDArray[np.intp]]:
    """Coordinates, and the rows that are neither a region nor missing."""
    n = len(texts)
    chrom = np.full(n, "", object)
    start, end = np.zeros(n, np.int64), np.zeros(n, np.int64)
    strand, bad = np.zeros(n, np.int8), []
    known: dict[str, str] = {}
    for row, text in enumerate(texts):
        found = _REGION.fullmatch(text.strip()) if isinstance(text, str) else None
        if found is None:
            if not is_missing(text):
                bad.append(row)
            continue
        name, a, b, c, d, e, f, sign, sign_too = found.groups()
        if strict and a is None and not _CHROMOSOME.fullmatch(name):
            continue
        first, last = (a, b) if a else (c, d) if c else (e, f)
        chrom[row] = known.setdefault(name, name)
        start[row], end[row] = int(first.replace(",", "")), int(last.replace(",", ""))
        if sign or sign_too:
            strand[row] = STRANDS[sign or sign_too]
    return Places(chrom, start, end, strand, chrom != ""), np.array(bad, np.intp)


def check_bases(places: Places, names: Sequence[Any] | None, what: str) -> None:
    """Refuse rows whose start is not below their end.

    Raises
    ------
    ValueError
        The message has their number and the first one.
    """
    empty = np.flatnonzero(places.there & (places.start >= places.end))
    if not empty.size:
        return
    row = int(empty[0])
    called = "" if names is None else f" ({names[row]})"
    raise ValueError(
        f"{share(empty.size, len(places.there))} regions of {what} have no bases, first row "
        f"{row:,}{called}: start {int(places.start[row]):,} is not below end "
        f"{int(places.end[row]):,}. Regions are 0-based and half-open; correct these rows or leave "
        "them out."
    )
