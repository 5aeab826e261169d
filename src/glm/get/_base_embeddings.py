"""Vectors of single bases: what :func:`glm.get.token_embeddings` does with a model of DNA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._messages import first_names, share, warn
from ..bases import to_text
from ..models.bundle import Model, load
from ..models.reads import dna_vocabulary
from ..tl._embed_regions import RegionOptions, find_regions, open_genome
from ..tl._job import choose_plan, run_job
from ..tl._job_kinds import Job
from ..tl._region_source import OK, RegionSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import torch

    from ..engine import Items
    from ..locate import Located
    from ..models.registry import ModelSpec
    from ..tl._region_reading import Sentences


@dataclass(frozen=True, eq=False)
class BaseEmbeddings:
    """The hidden states of one region, a row a base, in the direction in which it was read.

    Attributes
    ----------
    chrom
        The chromosome, as the object names it.
    positions
        int64, 0-based place of each base on its chromosome; falling where ``strand`` is -1.
    strand
        1, or -1 where the region was read as its reverse complement.
    bases
        Text of the bases as they were read, upper case, N where one is not known.
    vectors
        float32, bases × width; NaN where no token covers a base.
    """

    chrom: str
    positions: NDArray[np.int64]
    strand: int
    bases: str
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        """Number of bases."""
        return self.positions.size

    def __repr__(self) -> str:
        n_bases, width = self.vectors.shape
        if not n_bases:
            return f"BaseEmbeddings(no bases × {width})"
        start, end = int(self.positions.min()), int(self.positions.max()) + 1
        sign = "-" if self.strand < 0 else "+"
        return (
            f"BaseEmbeddings({n_bases:,} bases × {width}: {self.chrom}:{start:,}-{end:,}, {sign})"
        )

    def to_frame(self) -> pd.DataFrame:
        """The vectors as a table, indexed by position and base."""
        import pandas as pd

        index = pd.MultiIndex.from_arrays(
            [self.positions, list(self.bases)], names=["position", "base"]
        )
        return pd.DataFrame(self.vectors, index=index)


def base_embeddings(
    data: Any,
    names: Sequence[Any],
    model: Any,
    spec: ModelSpec,
    *,
    options: RegionOptions,
    hidden_layer: str | int | None,
    mod: str | None,
    device: str | None,
    token_budget: int | None,
) -> dict[str, BaseEmbeddings]:
    """Check and compute: see :func:`glm.get.token_embeddings`."""
    options.check()
    located = find_regions(data, spec.name, axis=options.axis, mod=mod)
    chosen, rows = _choose(located, names)
    vocabulary = dna_vocabulary(model if isinstance(model, Model) else spec)
    layer = spec.shape.layer_index(spec.hidden_layer if hidden_layer is None else hidden_layer)
    genome = open_genome(options.genome, located, spec.name)
    loaded = load(model)  # before the genome, as embed() does
    there = np.flatnonzero(rows >= 0)
    source = RegionSource(
        located.regions.take(rows[there]),
        there,
        len(chosen),
        genome=genome,
        vocabulary=vocabulary,
        strand=options.strand,
        max_n_share=options.max_n_share,
        edges=options.edges,
    )
    plan = choose_plan(spec.shape, device=device, token_budget=token_budget, precision="float32")
    kept = _KeepPieces(spec.shape.hidden_size)
    run_job(Job(source, loaded, plan, layer, what="embed bases"), kept)
    found = _by_region(source, kept.vectors)
    nothing = BaseEmbeddings(
        "", np.zeros(0, np.int64), 1, "", np.zeros((0, spec.shape.hidden_size), np.float32)
    )
    result = {name: found.get(i, nothing) for i, name in enumerate(chosen)}
    empty = [name for name, bases in result.items() if not len(bases)]
    if empty:
        warn(
            f"{share(len(empty), len(result))} regions have no bases to read "
            f"({first_names(empty)}): {', '.join(source.why_not())}."
        )
    return result


def per_base(
    vectors: NDArray[np.float32], spans: NDArray[np.integer], n_bases: int
) -> NDArray[np.float32]:
    """The mean of the vectors of all tokens that cover a base, bases × width.

    Of overlapping k-mers that is up to k; of tokens side by side it is one, of which each base it
    covers gets the vector. NaN where none covers a base.

    Parameters
    ----------
    vectors
        float32, tokens × width.
    spans
        tokens × 2: the bases that each covers, starts ascending and different.
    n_bases
        Bases there are.
    """
    total = np.zeros((n_bases, vectors.shape[1]), np.float32)
    number = np.zeros(n_bases, np.float32)
    lengths = spans[:, 1] - spans[:, 0]
    for ahead in range(int(lengths.max(initial=0))):
        covering = np.flatnonzero(lengths > ahead)
        at = spans[covering, 0] + ahead  # each base at most once: starts differ
        total[at] += vectors[covering]
        number[at] += 1
    number[number == 0] = np.nan
    total /= number[:, None]
    return total


def _choose(located: Located, names: Sequence[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """The chosen names, and which of the located regions each is; -1 where it has none."""
    if isinstance(names, str):
        raise TypeError(f"Got the text {names!r}, expected a list of names: [{names!r}].")
    here = getattr(located.holder, f"{located.axis}_names")
    chosen = list(dict.fromkeys(names))
    if not chosen:
        raise ValueError(f"No region was named; expected names of adata.{located.axis}_names.")
    if not here.is_unique:
        raise ValueError(
            f"Names of regions repeat; call adata.{located.axis}_names_make_unique() first."
        )
    missing = [name for name in chosen if name not in here]
    if missing:
        raise KeyError(
            f"{share(len(missing), len(chosen))} regions are not in adata.{located.axis}_names "
            f"({first_names(missing)}), whose first are {first_names(here)}."
        )
    region = np.full(located.n_rows, -1, np.int64)
    region[located.rows] = np.arange(len(located.rows))
    return [str(name) for name in chosen], region[here.get_indexer(chosen)]


def _by_region(source: RegionSource, vectors: NDArray[np.float32]) -> dict[int, BaseEmbeddings]:
    """Vectors of all tokens in order to those of bases, by the row of each region."""
    result: dict[int, BaseEmbeddings] = {}
    readable = np.flatnonzero(source.reason == OK)
    if not readable.size:
        return result
    found, strands = source.read(readable), source.strands[readable]
    n_readings = strands.shape[1]
    for i, region in enumerate(readable.tolist()):
        first = i * n_readings
        mean = _of_reading(found, first, vectors)
        if n_readings > 1:
            mean = _mean_of_strands(mean, _of_reading(found, first + 1, vectors)[::-1])
        bases = to_text(found.codes[found.code_offsets[first] : found.code_offsets[first + 1]])
        row, chrom, positions = source.place(region)
        strand = int(strands[i, 0])
        result[row] = BaseEmbeddings(chrom, positions[::strand], strand, bases, mean)
    return result


def _of_reading(
    found: Sentences, reading: int, vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    tokens = slice(found.offsets[reading], found.offsets[reading + 1])
    n_bases = int(found.code_offsets[reading + 1] - found.code_offsets[reading])
    return per_base(vectors[tokens], found.spans[tokens], n_bases)


def _mean_of_strands(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of both; where only one covers a base, that one."""
    one, other = np.where(np.isnan(one), other, one), np.where(np.isnan(other), one, other)
    return (one + other) / np.float32(2)


class _KeepPieces:
    """A reducer that keeps the hidden states of every token, each out of its own piece."""

    whole_rows = True

    def __init__(self, width: int) -> None:
        self._done: list[NDArray[np.float32]] = [np.zeros((0, width), np.float32)]
        self.start()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """float32, tokens × width: all tokens of all rows, in the order of rows and parts."""
        return np.concatenate(self._done)

    def start(self) -> None:
        self._seen: list[dict[str, np.ndarray]] = []

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        first = batch.offsets[:-1]
        inside = np.repeat(batch.span + first[:, None], batch.lengths, axis=0)
        at = np.arange(batch.tokens.size)
        own = (at >= inside[:, 0]) & (at < inside[:, 1])
        length = batch.span[:, 1] - batch.span[:, 0]
        vectors = hidden.float().cpu().numpy()[own]
        self._seen.append(
            {"row": batch.row, "part": batch.part, "length": length, "vectors": vectors}
        )

    def state(self) -> dict[str, np.ndarray]:
        if not self._seen:
            return {}
        return {name: np.concatenate([s[name] for s in self._seen]) for name in self._seen[0]}

    def merge(self, state: dict[str, np.ndarray]) -> None:
        if state:
            self._seen.append(state)

    def finish(self) -> None:
        state = self.state()
        self.start()
        if not state:
            return
        order = np.lexsort((state["part"], state["row"]))
        length = state["length"].astype(np.int64)
        start = (np.cumsum(length) - length)[order]
        length = length[order]
        inside = np.arange(int(length.sum())) - np.repeat(np.cumsum(length) - length, length)
        self._done.append(state["vectors"][np.repeat(start, length) + inside])
