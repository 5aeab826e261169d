"""Windows to train on and windows to be tested on: by chromosome, and no base in both."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .._messages import first_names, share, warn
from ..genome import short_name
from ..locate import overlapping
from ..models.enformer_config import BIN_BP
from ..regions import Regions
from .windows import TrackWindows


def split_by_chromosome(
    regions: Regions | TrackWindows,
    *,
    valid: str | Iterable[str] = (),
    test: str | Iterable[str] = (),
) -> np.ndarray:
    """Put whole chromosomes aside; what is on the others is to train on.

    Windows on one chromosome are never near one on another, so no base, and no gene, is on both
    sides. Names are matched with and without ``chr``.

    Parameters
    ----------
    regions
        What to divide, or windows of which the regions are known.
    valid, test
        Chromosomes by which the best epoch is chosen, and those kept for the end.

    Returns
    -------
    Text, one a region: ``"train"``, ``"valid"`` or ``"test"``. Windows divided so are
    ``dataclasses.replace(windows, fold=...)``.

    Raises
    ------
    ValueError
        If a chromosome has no region, is on both lists, or none is left to train on.

    Examples
    --------
    >>> import glm
    >>> regions = glm.Regions.of(["chr1", "chr8", "chr9"], [0, 0, 0], [9, 9, 9])
    >>> glm.train.split_by_chromosome(regions, valid="8", test=["chr9"]).tolist()
    ['train', 'valid', 'test']
    """
    if isinstance(regions, TrackWindows):
        if regions.regions is None:
            raise ValueError("Where these windows are is not known: TrackWindows(regions=...).")
        regions = regions.regions
    names, of = regions.chromosomes
    short = [short_name(name) for name in names]
    fold = np.full(len(names), "train", dtype="<U5")
    for part, given in (("valid", valid), ("test", test)):
        for chrom in [given] if isinstance(given, str) else given:
            found = [i for i, name in enumerate(short) if name == short_name(str(chrom))]
            if not found:
                raise ValueError(
                    f"No region is on {chrom!r}; they are on {first_names(map(repr, names), 6)}."
                )
            if (taken := fold[found[0]]) not in ("train", part):
                raise ValueError(f"{chrom!r} cannot be in {taken} and {part}.")
            fold[found] = part
    if not (fold == "train").any():
        raise ValueError("No chromosome is left to train on.")
    return fold[of]


def refuse_shared(train: TrackWindows, held_out: TrackWindows) -> None:
    """Refuse held-out windows that predict bases which are trained on; warn of shared flanks.

    Names of chromosomes are matched with and without ``chr``, as genomes read them.

    Raises
    ------
    ValueError
        With how many do.
    """
    one, other = train.regions, held_out.regions
    if one is None or other is None:
        return
    predicted = _within(other, BIN_BP * held_out.crop)
    inner = overlapping(predicted, _within(one, BIN_BP * train.crop))
    if inner.any():
        rows = np.flatnonzero(inner)
        raise ValueError(
            f"{share(rows.size, len(held_out))} held-out windows of {train.head} predict bases "
            f"that are trained on ({first_names(map(other.name, rows.tolist()))}): what is "
            "measured there would be memory. Divide by chromosome "
            "(glm.train.split_by_chromosome), or leave them out."
        )
    seen = overlapping(_within(other, 0), _within(one, 0))
    if seen.any():
        warn(
            f"{share(int(seen.sum()), len(held_out))} held-out windows of {train.head} read bases "
            f"that windows to train on read too, at their ends "
            f"({first_names(map(other.name, np.flatnonzero(seen).tolist()))}). None of these is "
            "predicted in both; dividing by chromosome (glm.train.split_by_chromosome) avoids it."
        )


def _within(regions: Regions, cut: int) -> Regions:
    """Without so many bases at either end, and with the shortest names of chromosomes."""
    names, of = regions.chromosomes
    short = np.array([short_name(name) for name in names], object)
    return Regions(short[of], regions.start + cut, regions.end - cut, regions.strand)
