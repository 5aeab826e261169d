from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..bases import reverse_complement
from ..genome import Genome

if TYPE_CHECKING:
    from anndata import AnnData

KINDS = ("island", "ordinary", "repeat")
_GAP = 600  # bases between regions: further apart than any flank that is read
_CHROMOSOMES = 3
_FAMILY = 200  # bases of the sequence that repeats are copies of
_A, _C, _G, _T = range(4)


def toy_regions(
    n_cells: int = 60, n_regions: int = 150, *, seed: int = 0
) -> tuple[AnnData, Genome]:
    """Made-up counts of peaks, and the made-up genome under them.

    Regions are of three kinds, which differ in their sequence: ``island`` (two thirds G and C, CpG
    as often as chance would have it), ``ordinary`` (35 to 50% G and C, most CpGs lost, as
    in most of the human genome) and ``repeat`` (copies of one ordinary sequence of 200 bases, with
    every tenth base changed, half of them on the other strand). Each kind of cell opens one kind
    of region four times as often as the others. Between regions the genome is ordinary. Nothing is
    fetched.

    Parameters
    ----------
    n_cells
        Cells. They are named as those of :func:`toy_cells` and of the same kinds, so that the two
        make a multiome.
    n_regions
        Regions, of 150 to 3,000 bases each.
    seed
        Seed of the draw; NumPy's global state is not touched.

    Returns
    -------
    An AnnData, cells × peaks: ``X`` CSR of float32 whole numbers, ``obs["kind"]`` and
    ``var["kind"]`` categorical, ``var["chrom"]``, ``var["start"]``, ``var["end"]``, and names such
    as ``chr1:600-1,012``; and the :class:`glm.Genome`, named ``"toy"``. 1,000 regions are about a
    million bases, a byte each.

    Raises
    ------
    ValueError
        If there is no cell or no region.

    Examples
    --------
    >>> import glm
    >>> peaks, genome = glm.datasets.toy_regions(n_cells=10)
    >>> peaks.shape, genome.name
    ((10, 150), 'toy')
    >>> glm.pp.sequence_stats(peaks, genome)
    >>> peaks.var.groupby("kind", observed=True)["sequence_gc"].mean().round(1).to_dict()
    {'island': 0.7, 'ordinary': 0.4, 'repeat': 0.4}
    """
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    if n_cells < 1 or n_regions < 1:
        raise ValueError(f"Got {n_cells:,} cells and {n_regions:,} regions; expected at least 1.")
    rng = np.random.default_rng(seed)
    kind = np.arange(n_regions) % len(KINDS)
    kind = rng.permutation(kind)
    length = np.clip(rng.lognormal(6.0, 0.5, n_regions), 150, 3_000).astype(np.int64)
    chrom = np.sort(np.arange(n_regions) % _CHROMOSOMES)
    start = _starts(chrom, length)
    genome = _genome(kind, chrom, start, length, rng)

    cell_kind = np.arange(n_cells) % len(KINDS)
    mean = np.where(cell_kind[:, None] == kind, 0.8, 0.2) * rng.lognormal(0.0, 0.6, n_regions)
    depth = rng.uniform(0.5, 1.5, n_cells)[:, None]
    counts = rng.poisson(depth * mean).astype(np.float32)
    obs = pd.DataFrame(
        {"kind": pd.Categorical.from_codes(cell_kind, ["a", "b", "c"])},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    names = [f"chr{c + 1}" for c in range(_CHROMOSOMES)]
    var = pd.DataFrame(
        {
            "chrom": pd.Categorical.from_codes(chrom, names),
            "start": start,
            "end": start + length,
            "kind": pd.Categorical.from_codes(kind, KINDS),
        }
    )
    places = zip(chrom, start, start + length, strict=True)
    var.index = [f"{names[c]}:{first:,}-{end:,}" for c, first, end in places]
    return AnnData(csr_matrix(counts), obs=obs, var=var), genome


def _starts(chrom: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Regions one after the other on each chromosome, with gaps between them."""
    before = np.cumsum(length + _GAP) - length
    first = np.searchsorted(chrom, chrom)  # the first region of the same chromosome
    return before - before[first] + _GAP


def _genome(
    kind: NDArray[np.int64],
    chrom: NDArray[np.int64],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    rng: np.random.Generator,
) -> Genome:
    family = _ordinary(_FAMILY, rng)
    records: dict[str, str | NDArray[np.uint8]] = {}
    for c in range(_CHROMOSOMES):
        here = np.flatnonzero(chrom == c)
        codes = _ordinary(int((length[here] + _GAP).sum()) + _GAP, rng)
        for i in here:
            codes[start[i] : start[i] + length[i]] = _bases(KINDS[kind[i]], length[i], family, rng)
        records[f"chr{c + 1}"] = codes
    return Genome(records, name="toy")


def _bases(
    kind: str, n: int, family: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    if kind == "island":
        return _draw(n, 0.66, rng)
    return _copy(family, n, rng) if kind == "repeat" else _ordinary(n, rng, rng.uniform(0.38, 0.54))


def _draw(n: int, gc: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    shares = np.array([1 - gc, gc, gc, 1 - gc]) / 2
    return rng.choice(4, n, p=shares).astype(np.uint8)


def _ordinary(n: int, rng: np.random.Generator, gc: float = 0.44) -> NDArray[np.uint8]:
    """Bases of which seven in ten CpGs became TG or CA, as methylation does in time."""
    codes = _draw(n, gc, rng)
    at = np.flatnonzero((codes[:-1] == _C) & (codes[1:] == _G))
    at = at[rng.random(at.size) < 0.7]
    first = rng.random(at.size) < 0.5
    codes[at[first]] = _T
    codes[at[~first] + 1] = _A
    return codes


def _copy(family: NDArray[np.uint8], n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The family's sequence from any of its bases on, again and again, a tenth of it changed."""
    codes = np.resize(np.roll(family, -int(rng.integers(_FAMILY))), n)
    changed = rng.random(n) < 0.1
    codes[changed] = (codes[changed] + rng.integers(1, 4, int(changed.sum()))) % 4
    return reverse_complement(codes) if rng.random() < 0.5 else codes
