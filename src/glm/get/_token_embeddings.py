from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._messages import first_names, share, warn
from ..cells import Counts, check_counts, check_target
from ..models.bundle import Model, load
from ..models.reads import gene_vocabulary
from ..models.registry import get
from ..tl._cell_source import CellSource
from ..tl._embed_regions import RegionOptions
from ..tl._job import choose_plan, run_job
from ..tl._job_kinds import Job
from ..tl._reading import reads_dna, refuse_foreign
from ._base_embeddings import BaseEmbeddings, base_embeddings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd
    import torch
    from anndata import AnnData
    from mudata import MuData

    from ..engine import Items
    from ..tl._embed import Sequences


@dataclass(frozen=True, eq=False)
class TokenEmbeddings:
    """The hidden states of one cell, a row a token, in the order in which the model reads them.

    Attributes
    ----------
    genes
        Names: ``var_names``, and ``"<cls>"`` and ``"<eos>"`` where the model has these tokens.
    tokens
        int32, token ids.
    vectors
        float32, tokens × width.
    """

    genes: np.ndarray
    tokens: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        """Number of tokens."""
        return self.tokens.size

    def __repr__(self) -> str:
        n_tokens, width = self.vectors.shape
        return f"TokenEmbeddings({n_tokens:,} tokens × {width}: {first_names(self.genes)})"

    def to_frame(self) -> pd.DataFrame:
        """The vectors as a table, indexed by gene."""
        import pandas as pd

        return pd.DataFrame(self.vectors, index=pd.Index(self.genes, name="gene"))


def token_embeddings(
    adata: AnnData | MuData,
    cells: Sequence[Any],
    model: str | Path | Model = "geneformer-v2-104m",
    *,
    hidden_layer: Literal["last", "second_to_last"] | int | None = None,
    mod: str | None = None,
    layer: str | None = None,
    use_raw: bool = False,
    gene_ids: str | None = None,
    log_normalized: bool = False,
    genome: Sequences | None = None,
    axis: Literal["obs", "var"] | None = None,
    strand: Literal["own", "both", "+"] = "own",
    edges: Literal["clip", "raise"] = "clip",
    device: str | None = None,
    token_budget: int | None = None,
) -> dict[str, TokenEmbeddings] | dict[str, BaseEmbeddings]:
    """Compute the vector of every token of chosen cells, or of every base of chosen regions.

    Nothing is written. For many cells take ``glm.tl.embed(adata, of="genes")``, which averages as
    it goes. Here all is returned: 4 bytes × tokens × width a cell, 6 MB for 2,048 tokens of a model
    of width 768; of regions as much for every base.

    A model that reads DNA gives vectors of bases: of overlapping k-mers the mean of those that
    cover the base; of byte pairs the token's vector for each base that it covers. Regions longer
    than the context are read in pieces, as :func:`glm.tl.embed` does.

    Parameters
    ----------
    adata
        Cells × genes, raw counts, as for :func:`glm.tl.rank_encode`; an object with regions; or a
        MuData, with ``mod``. Only the chosen cells or regions are looked at.
    cells
        Names of cells (``obs_names``), or of regions (``var_names`` or ``obs_names``, by ``axis``).
    model
        A name of :func:`glm.models.list`, the path of a bundle's folder, or a loaded model.
    hidden_layer
        ``"last"``, ``"second_to_last"`` or an index from 0 (token embeddings); ``None`` is the
        authors' own (Geneformer second to last, DNABERT and GROVER last).
    mod
        Modality of a MuData.
    layer, use_raw, gene_ids, log_normalized
        Where the counts and the Ensembl ids are, as for :func:`glm.tl.rank_encode`.
    genome, axis, strand, edges
        Of regions, as for :func:`glm.tl.embed`.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one. Computed in
        float32 on each.
    token_budget
        Most tokens run at once; ``None`` chooses by the device.

    Returns
    -------
    Cell name → its :class:`TokenEmbeddings`, in the order of ``cells``: ``genes``, ``tokens`` and
    ``vectors`` (float32, tokens × width), rank 1 first, special tokens at their places, genes
    beyond the model's context left out; ``to_frame()`` makes a table. A cell without a known gene
    has no tokens; a warning says so.

    Of regions, name → its :class:`BaseEmbeddings`: ``chrom``, ``positions`` (int64, 0-based),
    ``strand``, ``bases`` and ``vectors`` (float32, bases × width), in the direction in which the
    region was read. What lies beyond the chromosome is left out; N is read as unknown.

    Raises
    ------
    KeyError
        If there is no such cell or modality.
    ValueError
        If ``cells`` is empty or cell names repeat; else as for :func:`glm.tl.embed`.
    OSError, TypeError
        As for :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> found = glm.get.token_embeddings(adata, ["cell0"], "geneformer-tiny")["cell0"]
    >>> found.vectors.shape == (
    ...     len(found.genes),
    ...     glm.models.get("geneformer-tiny").shape.hidden_size,
    ... )
    True

    >>> import numpy as np
    >>> from anndata import AnnData
    >>> peaks = AnnData(np.ones((1, 2), np.float32))
    >>> peaks.var_names = ["chr1:100-400", "chr1:1,000-1,200"]
    >>> genome = {"chr1": "ACGTTGCA" * 200}
    >>> found = glm.get.token_embeddings(peaks, ["chr1:100-400"], "dnabert-tiny", genome=genome)
    >>> found["chr1:100-400"].bases[:8], len(found["chr1:100-400"])
    ('TGCAACGT', 300)
    """
    spec = model.spec if isinstance(model, Model) else get(model)
    counts_at: dict[str, Any] = {
        "layer": layer,
        "use_raw": use_raw,
        "gene_ids": gene_ids,
        "log_normalized": log_normalized,
    }
    if reads_dna(model, spec):
        refuse_foreign(spec, "DNA", counts_at)
        return base_embeddings(
            adata,
            cells,
            model,
            spec,
            options=RegionOptions(genome, axis, strand, 1.0, edges),
            hidden_layer=hidden_layer,
            mod=mod,
            device=device,
            token_budget=token_budget,
        )
    options = RegionOptions(genome, axis, strand, edges=edges)
    refuse_foreign(spec, "cells", options.given())
    _, adata = check_target(adata, mod=mod)
    rows = _rows(adata, cells)
    vocabulary = gene_vocabulary(model if isinstance(model, Model) else spec)
    read_layer = spec.hidden_layer if hidden_layer is None else hidden_layer
    n_layers_run = spec.shape.layer_index(read_layer)
    part = adata[rows].to_memory() if adata.isbacked else adata[rows]
    counts = check_counts(part, vocabulary, model=spec.name, **counts_at)
    found = _compute(counts, load(model), n_layers_run, device, token_budget)

    names = _token_names(part, counts, use_raw)
    width = spec.shape.hidden_size
    nothing = (np.zeros(0, np.int32), np.zeros((0, width), np.float32))
    result = {}
    for i, cell in enumerate(part.obs_names):
        tokens, vectors = found.get(i, nothing)
        result[str(cell)] = TokenEmbeddings(names[tokens], tokens, vectors)
    empty = [cell for cell, tokens in result.items() if not len(tokens)]
    if empty:
        warn(
            f"{share(len(empty), len(result))} cells have no count on a gene of {spec.name} and no "
            f"tokens ({first_names(empty)})."
        )
    return result


def _rows(adata: AnnData, cells: Sequence[Any]) -> np.ndarray:
    if isinstance(cells, str):
        raise TypeError(f"cells is the text {cells!r}, expected a list of names: [{cells!r}].")
    names = list(dict.fromkeys(cells))
    if not names:
        raise ValueError("cells is empty; expected names of adata.obs_names.")
    if not adata.obs_names.is_unique:
        raise ValueError("Cell names repeat; call adata.obs_names_make_unique() first.")
    missing = [name for name in names if name not in adata.obs_names]
    if missing:
        raise KeyError(
            f"{share(len(missing), len(names))} cells are not in adata.obs_names "
            f"({first_names(missing)}), whose first are {first_names(adata.obs_names)}."
        )
    return adata.obs_names.get_indexer(names)


def _compute(
    counts: Counts, model: Model, layer: int, device: str | None, token_budget: int | None
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Tokens and hidden states of each row that has any."""
    plan = choose_plan(
        model.spec.shape, device=device, token_budget=token_budget, precision="float32"
    )
    kept = _KeepTokens()
    run_job(Job(CellSource(counts), model, plan, layer, what="embed tokens"), kept)
    return kept.found


class _KeepTokens:
    """A reducer that keeps everything."""

    whole_rows = True

    def __init__(self) -> None:
        self.found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.start()

    def start(self) -> None:
        self._seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, batch: Items, hidden: torch.Tensor) -> None:
        vectors = hidden.float().cpu().numpy()
        edges = batch.offsets[1:-1]
        parts = zip(np.split(batch.tokens, edges), np.split(vectors, edges), strict=True)
        # Copies: a part of the batch would hold on to all of it.
        copies = [(tokens.copy(), states.copy()) for tokens, states in parts]
        self._seen |= dict(zip(batch.row.tolist(), copies, strict=True))

    def state(self) -> dict[str, np.ndarray]:
        if not self._seen:
            return {}
        rows = list(self._seen)
        return {
            "row": np.array(rows),
            "length": np.array([self._seen[row][0].size for row in rows]),
            "tokens": np.concatenate([self._seen[row][0] for row in rows]),
            "vectors": np.concatenate([self._seen[row][1] for row in rows]),
        }

    def merge(self, state: dict[str, np.ndarray]) -> None:
        if not state:
            return
        edges = np.cumsum(state["length"])[:-1]
        parts = zip(
            np.split(state["tokens"], edges), np.split(state["vectors"], edges), strict=True
        )
        self._seen |= dict(zip(state["row"].tolist(), parts, strict=True))

    def finish(self) -> None:
        self.found |= self._seen
        self.start()


def _token_names(adata: AnnData, counts: Counts, use_raw: bool) -> np.ndarray:
    """The name of every token of the vocabulary that can occur."""
    names = np.full(len(counts.vocabulary), "", dtype=object)
    for name, token in counts.vocabulary.special.items():
        names[token] = f"<{name}>"
    target = counts.genes.target
    columns = np.flatnonzero(target == np.arange(target.size))
    var_names = np.asarray(adata.raw.var_names if use_raw else adata.var_names, dtype=object)
    names[counts.column_tokens[columns]] = var_names[columns]
    return names
