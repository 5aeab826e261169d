"""Groups of cells by a column of ``obs``: checked, by name, in a fixed order."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._messages import first_names, share

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Groups:
    """What group each cell is in.

    Attributes
    ----------
    column
        The column of ``obs``, ``None`` where all cells are in one group without a name.
    names
        The groups, in the order of the categories, else sorted; ``(None,)`` for the one.
    of_row
        int32, one a cell: place of its group in ``names``.
    """

    column: str | None
    names: tuple[str | None, ...]
    of_row: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def facts(self) -> dict[str, object]:
        """What goes into a record."""
        if self.column is None:
            return {"groupby": None}
        return {"groupby": self.column, "groups": list(self.names)}

    @property
    def sha256(self) -> str:
        """A hash of the names and of what cell is in which, for the facts of a long run."""
        digest = hashlib.sha256(json.dumps([self.column, *self.names]).encode())
        digest.update(self.of_row.tobytes())
        return digest.hexdigest()


def find_groups(adata: AnnData, column: str | None) -> Groups:
    """Read the groups of a column of ``obs``; ``None`` puts all cells in one.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If labels are missing, if there is one only, if they are fractions, or not told apart by
        their names.
    """
    if column is None:
        return Groups(None, (None,), np.zeros(adata.n_obs, np.int32))
    if column not in adata.obs:
        raise KeyError(
            f"adata.obs has no column {column!r} to group by; it has "
            f"{', '.join(map(str, adata.obs.columns)) or 'no columns'}."
        )
    obs = adata.obs[[column]]
    labels = (obs.to_memory() if hasattr(obs, "to_memory") else obs)[column]  # lazily read
    missing = labels.isna().to_numpy()
    if missing.any():
        first = first_names(adata.obs_names[missing])
        raise ValueError(
            f"{share(int(missing.sum()), adata.n_obs)} cells have no label in "
            f"adata.obs[{column!r}] ({first}). Leave them out with "
            f"adata[adata.obs[{column!r}].notna()], or give them one."
        )
    if labels.dtype.kind == "f":
        raise ValueError(
            f"adata.obs[{column!r}] holds fractions ({labels.dtype}), expected labels. Cut it into "
            "classes first, for example with pandas.cut."
        )
    # By name, never by the code of a category: codes change when an object is sliced.
    categorical = labels.astype("category").cat.remove_unused_categories()
    names = [str(name) for name in categorical.cat.categories]
    if len(set(names)) < len(names):
        raise ValueError(
            f"adata.obs[{column!r}] has different labels of the same name "
            f"({first_names(sorted({n for n in names if names.count(n) > 1}))}). Rename them."
        )
    if len(names) == 1:
        raise ValueError(
            f"All cells have the same label in adata.obs[{column!r}] ({names[0]!r}). Leave groupby "
            "out to take all cells together, or choose another column."
        )
    return Groups(column, tuple(names), categorical.cat.codes.to_numpy().astype(np.int32))


def check_distinct(slots: list[tuple[str, str]], groups: Groups) -> None:
    """Refuse groups whose names would give the same slot."""
    repeated = sorted({name for slot in slots if slots.count(slot) > 1 for name in [slot[1]]})
    if repeated:
        raise ValueError(
            f"Groups of adata.obs[{groups.column!r}] would be written to the same slot "
            f"({first_names(repeated)}): in slots '/' becomes '_', and the counts beside an "
            "attention end in '_n'. Rename the groups."
        )
