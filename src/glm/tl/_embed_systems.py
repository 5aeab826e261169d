"""``embed`` for one system each: no other model is taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..models.bundle import Model
from ..models.registry import get
from ._embed import embed

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan


def embed_geneformer(
    adata: AnnData | MuData, model: str | Path | Model = "geneformer-v2-104m", **options: Any
) -> AnnData | MuData | RunPlan | None:
    """Embed cells with a Geneformer: :func:`glm.tl.embed` that takes no other system.

    Parameters
    ----------
    adata
        Cells × genes, raw counts; or a MuData, with ``mod``.
    model
        A Geneformer: its name, a bundle's folder, or the loaded model.
    **options
        As for :func:`glm.tl.embed`.

    Returns
    -------
    ``None``, the copy, or the plan; sets ``adata.obsm["X_<key>"]``, ``adata.obs["<key>_ok"]`` and
    ``adata.uns["X_<key>"]`` as :func:`glm.tl.embed` does.

    Raises
    ------
    ValueError
        If the model is of another system; else as :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm
    >>> adata = glm.datasets.toy_cells()
    >>> glm.tl.embed_geneformer(adata, "geneformer-tiny", hidden_layer="last")
    """
    return _embed_with("geneformer", adata, model, options)


def embed_dnabert(
    adata: AnnData | MuData, model: str | Path | Model = "dnabert-6", **options: Any
) -> AnnData | MuData | RunPlan | None:
    """Embed regions with a DNABERT :cite:p:`ji2021`: :func:`glm.tl.embed` of no other system.

    Parameters
    ----------
    adata
        An object with regions; or a MuData, with ``mod``.
    model
        A DNABERT: its name, a bundle's folder, or the loaded model.
    **options
        As for :func:`glm.tl.embed`; ``genome`` is needed.

    Returns
    -------
    ``None``, the copy, or the plan; sets ``varm["X_<key>"]`` (or ``obsm``), ``var["<key>_ok"]``
    and ``uns["X_<key>"]`` as :func:`glm.tl.embed` does.

    Raises
    ------
    ValueError
        If the model is of another system; else as :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm, numpy as np
    >>> from anndata import AnnData
    >>> peaks = AnnData(np.ones((2, 2), np.float32))
    >>> peaks.var_names = ["chr1:100-400", "chr1:1,000-1,200"]
    >>> glm.tl.embed_dnabert(peaks, "dnabert-tiny", genome={"chr1": "ACGTTGCA" * 200})
    >>> bool(peaks.var["dnabert_ok"].all())
    True
    """
    return _embed_with("dnabert", adata, model, options)


def embed_grover(
    adata: AnnData | MuData, model: str | Path | Model = "grover", **options: Any
) -> AnnData | MuData | RunPlan | None:
    """Embed regions with a GROVER :cite:p:`sanabria2024`: :func:`glm.tl.embed` of no other system.

    Parameters
    ----------
    adata
        An object with regions; or a MuData, with ``mod``.
    model
        A GROVER: its name, a bundle's folder, or the loaded model.
    **options
        As for :func:`glm.tl.embed`; ``genome`` is needed.

    Returns
    -------
    ``None``, the copy, or the plan; sets ``varm["X_<key>"]`` (or ``obsm``), ``var["<key>_ok"]``
    and ``uns["X_<key>"]`` as :func:`glm.tl.embed` does.

    Raises
    ------
    ValueError
        If the model is of another system; else as :func:`glm.tl.embed`.

    Examples
    --------
    >>> import glm, numpy as np
    >>> from anndata import AnnData
    >>> peaks = AnnData(np.ones((2, 2), np.float32))
    >>> peaks.var_names = ["chr1:100-400", "chr1:1,000-1,200"]
    >>> glm.tl.embed_grover(peaks, "grover-tiny", genome={"chr1": "ACGTTGCA" * 200})
    >>> bool(peaks.var["grover_ok"].all())
    True
    """
    return _embed_with("grover", adata, model, options)


def _embed_with(
    system: str, adata: AnnData | MuData, model: str | Path | Model, options: dict[str, Any]
) -> AnnData | MuData | RunPlan | None:
    spec = model.spec if isinstance(model, Model) else get(model)
    if spec.system != system:
        raise ValueError(f"{spec.name} is a model of {spec.system}; use glm.tl.embed.")
    _refuse_foreign_names(options)
    return embed(adata, model, **options)


def _refuse_foreign_names(options: dict[str, Any]) -> None:
    if "emb_layer" in options:
        raise TypeError(
            "emb_layer is another tool's name, in which 0 is the last layer and -1 the one before. "
            "Here it is hidden_layer='last' or hidden_layer='second_to_last'."
        )
