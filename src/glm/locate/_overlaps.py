"""Which stretches of a genome share bases with others, without comparing each with each."""

from __future__ import annotations

import numpy as np

from ..regions import Regions


def overlapping(regions: Regions, others: Regions) -> np.ndarray:
    """bool, one a region: whether it shares a base with any of the others.

    Chromosomes are compared by name as they are written. Costs a sort of the others.
    """
    if not len(regions) or not len(others):
        return np.zeros(len(regions), bool)
    start, end, other_start, other_end = _on_one_line(regions, others)
    order = np.argsort(other_start, kind="stable")
    begins = other_start[order]
    reached = np.maximum.accumulate(other_end[order])  # by any that begins no later
    n_before = np.searchsorted(begins, end, side="left")
    return (n_before > 0) & (reached[n_before - 1] > start)


def _on_one_line(one: Regions, other: Regions) -> tuple[np.ndarray, ...]:
    """Starts and ends of both, chromosomes laid one after the other."""
    import pandas as pd

    chrom, _ = pd.factorize(np.concatenate([one.chrom, other.chrom]))
    start = np.concatenate([one.start, other.start])
    end = np.concatenate([one.end, other.end])
    least = start.min()
    shift = chrom.astype(np.int64) * int(end.max() - least)
    start, end = start - least + shift, end - least + shift
    n = len(one)
    return start[:n], end[:n], start[n:], end[n:]
