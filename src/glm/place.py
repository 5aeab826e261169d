"""Where in an AnnData the counts and the names of their genes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ._keys import ENSEMBL_ID
from .encode.counts import iter_blocks
from .genes import looks_like_ids

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, eq=False)
class Place:
    """A matrix of an object: ``X``, a layer, or the one of ``raw``."""

    adata: AnnData
    layer: str | None
    use_raw: bool

    def matrix(self) -> Any:
        """The matrix.

        Raises
        ------
        KeyError, ValueError
            If there is no such layer; if there is no matrix.
        """
        adata, layer = self.adata, self.layer
        if layer is not None and self.use_raw:
            raise ValueError(f"Pass layer={layer!r} or use_raw=True, not both.")
        if self.use_raw:
            if adata.raw is None:
                raise ValueError("adata.raw is not set; pass layer= or leave use_raw out.")
            return adata.raw.X
        if layer is not None:
            if layer not in adata.layers:
                raise KeyError(f"There is no layer {layer!r}; adata.layers has {self._layers()}.")
            return adata.layers[layer]
        if adata.X is None:
            raise ValueError(
                f"adata.X is empty. Say where the counts are: layer= (there are {self._layers()})"
                + (", or use_raw=True." if adata.raw is not None else ".")
            )
        return adata.X

    def _layers(self) -> str:
        return ", ".join(str(name) for name in self.adata.layers) or "no layers"

    @property
    def name(self) -> str:
        """What a record calls it."""
        return "raw" if self.use_raw else self.layer or "X"

    @property
    def title(self) -> str:
        """What a message calls it."""
        if self.use_raw:
            return "adata.raw.X"
        return "adata.X" if self.layer is None else f"adata.layers[{self.layer!r}]"

    @property
    def labels(self) -> list[str]:
        """What its columns are called, whatever names ids are read from."""
        holder = self.adata.raw if self.use_raw and self.adata.raw is not None else self.adata
        return [str(name) for name in holder.var_names]

    def names(self, column: str | None) -> tuple[Sequence[object], str]:
        """The names in which ids are looked for, and the column of ``var`` they are in.

        Raises
        ------
        KeyError, ValueError
            If there is no such column; if nothing is known of the names in ``raw``.
        """
        adata, var = self.adata, self.adata.var
        if self.use_raw and adata.raw is not None and not adata.raw.var_names.equals(var.index):
            var = adata.raw.var
            if column is None and ENSEMBL_ID in adata.var and ENSEMBL_ID not in var:
                raise ValueError(
                    f"adata.raw has other genes than adata, and adata.var[{ENSEMBL_ID!r}] says "
                    "nothing of them. Work on adata.raw.to_adata() and map its genes with "
                    "glm.pp.map_genes."
                )
        if column is None:
            column = ENSEMBL_ID if ENSEMBL_ID in var else "var_names"
        if column == "var_names":
            return list(var.index), column
        if column not in var:
            there = ", ".join(map(str, var.columns)) or "none"
            raise KeyError(f"adata.var has no column {column!r}; it has {there}.")
        # "" marks what map_genes could not place; it is no missing name but a known "no gene".
        values = var[column].to_numpy()  # of a lazily read object it is no pandas
        listed = ["-" if isinstance(name, str) and not name else name for name in values]
        return listed, column

    def id_columns(self) -> list[str]:
        """Columns of ``var`` whose first entries are mostly human Ensembl ids."""
        var = self.adata.var
        return [str(column) for column in var.columns if looks_like_ids(var[column])]

    def elsewhere(self) -> str:
        """What to pass instead: the layers, ``raw`` or ``X`` that look like counts."""
        others = self.others()
        ways = [option for option, _, matrix in others if looks_like_counts(matrix)]
        if (self.use_raw or self.layer is not None) and looks_like_counts(self.adata.X):
            ways.append("neither layer= nor use_raw= for adata.X")
        if ways:
            look = "which looks" if len(ways) == 1 else "which look"
            return f"Pass {' or '.join(ways)}, {look} like raw counts"
        searched = [name for _, name, _ in others]
        none = f" (there are {', '.join(searched)}; none looks like them)"
        if len(searched) == 1:
            none = f" ({searched[0]} does not look like them)"
        return f"Pass layer= with raw counts{none if searched else ''}"

    def others(self) -> list[tuple[str, str, Any]]:
        """Every other layer, and ``raw``: the option that takes it, its name, its matrix."""
        layers, raw = self.adata.layers, None if self.use_raw else self.adata.raw
        # A rank layer is of whole numbers too; it has a record of its name.
        names = [name for name in layers if name != self.layer and name not in self.adata.uns]
        found = [(f"layer={str(name)!r}", str(name), layers[name]) for name in names]
        return found if raw is None else [*found, ("use_raw=True", "adata.raw", raw.X)]


def looks_like_counts(matrix: Any) -> bool:
    """Whether the first cells hold whole numbers, and not only 0 and 1."""
    values = first_values(matrix)
    return bool(values.size and values.min() >= 0 and values.max() > 1 and not (values % 1).any())


def first_values(matrix: Any) -> np.ndarray:
    """What the first cells hold but zeros: nothing where it is no matrix of numbers, or empty."""
    try:
        _, block = next(iter_blocks(matrix, block_rows=500))
    except (TypeError, StopIteration):
        return np.zeros(0)
    return block.data
