from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import slots
from .._keys import EmbeddingKeys
from .._messages import first_names, share, warn
from .._settings import logger, settings
from ..cells import check_target
from ..encode.counts import iter_blocks, scan
from ..place import Place
from ._job import finite_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def aggregate_peaks(
    adata: AnnData | MuData,
    key: str = "dnabert",
    *,
    mod: str | None = None,
    layer: str | None = None,
    key_added: str | None = None,
    overwrite: bool = False,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Embed cells by the sequences of their open peaks: a weighted mean of peak embeddings.

    Call :func:`glm.tl.embed` on the peaks first. Of ``N`` cells, a peak that is open (has a count)
    in ``n`` of them has the inverse document frequency ``log(1 + N / n)``; a cell weighs each of
    its peaks by its count times that, and the weights of a cell add up to 1, so that depth does not
    matter (the term frequency's own denominator cancels). Peak embeddings are centred first, by
    their mean over the peaks that are used: what all open DNA has in common would otherwise be
    almost all of every cell's vector.

    Peaks without an embedding are left out, and so are those that are open in no cell. Counts are
    read block by block, twice, and stay sparse. Costs two operations × stored counts × width (a
    minute for 10,000 cells of 10,000 open peaks each and a width of 768 on one core) and, beside
    the result, one copy of the peak embeddings.

    Parameters
    ----------
    adata
        Cells × peaks, raw counts, with an embedding of the peaks in ``varm["X_<key>"]``; or a
        MuData, with ``mod``.
    key
        Name of the peak embedding in the slots.
    mod
        Modality of a MuData. Results go into that modality.
    layer
        Where the counts are; ``None`` is ``X``.
    key_added
        Name in the slots; by default ``"<key>_peaks"``.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. Sets:

    ``adata.obsm["X_<key>_peaks"]``
        float32, cells × width. NaN in rows of cells without a count on a peak that is used.
    ``adata.obs["<key>_peaks_ok"]``
        bool. Whether the row could be computed.
    ``adata.uns["X_<key>_peaks"]``
        The record: the model and genome of the peak embedding, weights, peaks used and left out,
        cells without any.

    Raises
    ------
    KeyError
        If there is no such embedding, layer or modality.
    TypeError, ValueError
        If counts are negative, not finite or not whole; if no peak can be used; if a slot holds
        something else.

    Examples
    --------
    >>> import glm, numpy as np
    >>> from anndata import AnnData
    >>> atac = AnnData(np.array([[1, 0, 2], [0, 3, 0]], np.float32))
    >>> atac.varm["X_mine"] = np.array([[1, 0], [0, 1], [2, 2]], np.float32)
    >>> glm.tl.aggregate_peaks(atac, "mine")
    >>> np.allclose(atac.obsm["X_mine_peaks"], [[2 / 3, 1 / 3], [-1, 0]])
    True
    """
    data, holder = check_target(adata, mod=mod, copy=copy)
    peaks = EmbeddingKeys(key)
    vectors, used = _peak_embeddings(holder, peaks)
    place = Place(holder, layer, use_raw=False)
    matrix = place.matrix()
    _check_counts(place, matrix)
    keys = EmbeddingKeys(key_added or f"{key}_peaks")
    written = keys.slots("obs")
    made = holder.uns.get(peaks.record)
    source = made if isinstance(made, Mapping) else {}
    model = str(source.get("model", "unknown"))
    weights = str(source.get("weights_sha256", "unsaved"))
    slots.check_free(
        holder, written, keys.record, model=model, overwrite=overwrite, weights_sha256=weights
    )

    n_open = count_cells(matrix, holder.n_vars)
    n_embedded = int(used.sum())
    used &= n_open > 0
    if not used.any():
        raise ValueError(
            f"None of {holder.n_vars:,} peaks is open in any cell and has an embedding: "
            f"{int((n_open > 0).sum()):,} are open, {n_embedded:,} have an embedding. Are "
            f"{place.title} the counts of these peaks, and adata.varm[{peaks.obsm!r}] theirs?"
        )
    weight = np.zeros(holder.n_vars)
    weight[used] = np.log1p(holder.n_obs / n_open[used])
    found = weighted_means(matrix, weight, _centred(vectors, used))
    ok = finite_rows(found)
    record = slots.make_record(
        function="glm.tl.aggregate_peaks",
        model=model,
        weights_sha256=weights,
        tier=source.get("tier", "unknown"),
        peaks=peaks.obsm,
        genome=source.get("genome", "unknown"),
        counts=place.name,
        weights="count × log(1 + cells / cells in which the peak is open)",
        centred=True,
        n_peaks=holder.n_vars,
        n_peaks_used=int(used.sum()),
        n_peaks_open_in_no_cell=int((n_open == 0).sum()),
        n_cells=holder.n_obs,
        n_cells_unusable=int((~ok).sum()),
    )
    slots.write(holder, dict(zip(written, (found, ok), strict=True)), keys.record, record)
    _report(holder, keys, ok, found)
    return data if copy else None


def count_cells(matrix: Any, n_columns: int) -> NDArray[np.int64]:
    """int64, one a column: rows with a value above zero."""
    number = np.zeros(n_columns, np.int64)
    for _, block in iter_blocks(matrix):
        number += np.bincount(block.indices[block.data > 0], minlength=n_columns)
    return number


def weighted_means(
    matrix: Any, weight: NDArray[np.float64], vectors: NDArray[np.float32]
) -> NDArray[np.float32]:
    """For each row the mean of the columns' vectors, weighted by value × weight of the column.

    Parameters
    ----------
    matrix
        Rows × columns, not negative, of any kind that :func:`glm.encode.iter_blocks` reads.
    weight
        One a column; 0 leaves it out.
    vectors
        float32, columns × width, finite.

    Returns
    -------
    float32, rows × width; NaN where all weights of a row are 0.
    """
    import scipy.sparse as sp

    found = np.full((int(matrix.shape[0]), vectors.shape[1]), np.nan, np.float32)
    for start, block in iter_blocks(matrix):
        values = block.data * weight[block.indices]
        weighted = sp.csr_array((values, block.indices, block.indptr), shape=block.shape)
        total = weighted.sum(axis=1)
        some = np.flatnonzero(total > 0)
        # Shares first: sums of float32 then stay as exact as they can be, whatever the depth.
        shares = weighted[some].multiply(1 / total[some, None]).tocsr().astype(np.float32)
        found[start + some] = shares @ vectors
    return found


def _peak_embeddings(
    adata: AnnData, keys: EmbeddingKeys
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The embeddings, and which peaks have one."""
    if keys.obsm not in adata.varm:
        there = [str(name)[2:] for name in adata.varm if str(name).startswith("X_")]
        raise KeyError(
            f"adata.varm has no {keys.obsm!r}: call glm.tl.embed on the peaks first, or pass key= "
            f"({', '.join(map(repr, there)) or 'there is none yet'})."
        )
    vectors = np.asarray(adata.varm[keys.obsm])
    used = np.isfinite(vectors).all(axis=1)
    if keys.ok in adata.var:
        used &= adata.var[keys.ok].isin([True]).to_numpy()  # NA is no
    return vectors, used


def _check_counts(place: Place, matrix: Any) -> None:
    summary = scan(matrix, n_threads=settings.n_threads)
    for number, first, what in (
        (summary.n_not_finite, summary.first_not_finite, "not finite"),
        (summary.n_negative, summary.first_negative, "below zero"),
        (summary.n_fractional, summary.first_fractional, "not whole"),
    ):
        if number and first is not None:
            row, column, value = first
            cell, peak = place.adata.obs_names[row], place.labels[column]
            raise ValueError(
                f"{number:,} values of {place.title} are {what}, the first {value:g} in cell "
                f"{cell!r}, peak {peak!r}; expected raw counts of fragments or reads. "
                f"{place.elsewhere()}."
            )


def _centred(vectors: NDArray[np.float32], used: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A copy with the mean of the used rows taken off, and zeros in the others."""
    centred = np.zeros(vectors.shape, np.float32)
    mean = vectors[used].mean(axis=0, dtype=np.float64)
    centred[used] = vectors[used] - mean
    return centred


def _report(
    adata: AnnData, keys: EmbeddingKeys, ok: NDArray[np.bool_], found: NDArray[np.float32]
) -> None:
    shape = f"{found.shape[0]:,} × {found.shape[1]}"
    logger.info("added %r (obsm, %s, float32)", keys.obsm, shape)
    if not ok.all():
        bad = adata.obs_names[~ok]
        warn(
            f"{share(len(bad), ok.size)} cells have no count on a peak with an embedding and are "
            f"NaN ({first_names(bad)}). Leave them out with adata[adata.obs[{keys.ok!r}]]."
        )
