"""The baseline: ridge regression on GC, CpG and k-mers around each bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glm.bases import N
from glm.models.enformer_config import BIN_BP

C, G = 1, 2
GC_BINS = (1, 3, 9, 33, 129)
"""Widths in bins, centred, over which the shares of GC and of CpG are taken."""

KMER_BINS = (1, 5)
"""Widths in bins over which k-mers are counted."""

KMER_SIZES = (3, 4, 5)
PENALTIES = tuple(10.0**power for power in range(0, 8))
"""Of standardised features, so a penalty compares with the number of bins."""


def features(codes: np.ndarray, k: int, crop: int) -> np.ndarray:
    """What is told of each bin but the ``crop`` at either end: float32, bins × features.

    Shares of G or C, of CpG, and CpG against what the shares of C and of G let expect, over
    :data:`GC_BINS`; square roots of counts of k-mers, as they stand on the + strand, over
    :data:`KMER_BINS`.
    """
    base = np.stack([codes == C, codes == G, np.zeros_like(codes, bool), codes != N], axis=1)
    base[:-1, 2] = base[:-1, 0] & base[1:, 1]
    in_bin = base.reshape(-1, BIN_BP, 4).sum(axis=1)
    found = []
    for width in GC_BINS:
        c, g, cpg, known = (_around(in_bin, width)[crop : len(in_bin) - crop] / BIN_BP).T
        known = np.maximum(known, 1 / BIN_BP)
        expected = np.maximum(c * g / known, 1e-3)
        found += [(c + g) / known, np.sqrt(cpg / known), np.minimum(cpg / expected, 2.0)]
    counts = kmer_counts(codes, k)
    kmers = [np.sqrt(_around(counts, w)[crop : len(counts) - crop]) for w in KMER_BINS]
    return np.concatenate([np.stack(found, axis=1), *kmers], axis=1).astype(np.float32)


def kmer_counts(codes: np.ndarray, k: int) -> np.ndarray:
    """How often each k-mer of known bases begins in each bin: int32, bins × 4^k."""
    n_bins = len(codes) // BIN_BP
    number = np.zeros(len(codes) - k + 1, np.int64)
    known = np.ones(number.size, bool)
    for i in range(k):
        here = codes[i : i + number.size]
        number = 4 * number + np.minimum(here, 3)
        known &= here != N
    cell = np.arange(number.size) // BIN_BP * 4**k + number
    return np.bincount(cell[known], minlength=n_bins * 4**k).reshape(n_bins, -1).astype(np.int32)


def _around(counts: np.ndarray, width: int) -> np.ndarray:
    """Sums over ``width`` bins around each; beyond the ends there is nothing."""
    half = width // 2
    total = np.concatenate([np.zeros_like(counts[:1]), np.cumsum(counts, axis=0)])
    at = np.arange(len(counts))
    return total[np.minimum(at + half + 1, len(counts))] - total[np.maximum(at - half, 0)]


@dataclass(frozen=True, eq=False)
class Ridge:
    """Least squares with a penalty: fitted once, read at any penalty."""

    centre: np.ndarray
    scale: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    moments: np.ndarray
    mean: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray) -> Ridge:
        """Of features, bins × features, and tracks, bins × tracks."""
        centre, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        scale = np.where(scale > 0, scale, 1.0)
        mean = y.mean(axis=0, dtype=np.float64)
        z = ((x - centre.astype(np.float32)) / scale.astype(np.float32)).astype(np.float32)
        values, vectors = np.linalg.eigh((z.T @ z).astype(np.float64))
        moments = vectors.T @ (z.T @ (y - mean.astype(np.float32))).astype(np.float64)
        return cls(centre, scale, np.maximum(values, 0), vectors, moments, mean)

    def predict(self, x: np.ndarray, penalty: float) -> np.ndarray:
        """Tracks of other bins."""
        weights = self.vectors @ (self.moments / (self.values + penalty)[:, None])
        weights /= self.scale[:, None]
        shift = self.mean - self.centre @ weights
        return x @ weights.astype(np.float32) + shift.astype(np.float32)
