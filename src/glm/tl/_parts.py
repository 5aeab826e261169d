"""Which rows are trained on, chosen by and tested on: by shares, folds, groups, or a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._messages import first_names, share
from ..train.split import Parts, assign, divide, lost, shared_groups

if TYPE_CHECKING:
    from anndata import AnnData

    from ._targets import Target

_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "held_out": "test",
}
"""Names of parts that a column may hold, in place of those of folds."""


@dataclass(frozen=True)
class Wish:
    """How rows are to be divided.

    Attributes
    ----------
    folds
        How many folds; or a column with their names, or with those of parts; ``None`` for shares.
    split_by
        Column whose groups are kept whole.
    test_share, validation_share
        Shares of the rows that are tested on; of the others, that are chosen and calibrated by.
    seed
        Decides what is left to chance.
    """

    folds: int | str | None = None
    split_by: str | None = None
    test_share: float = 0.1
    validation_share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.folds, bool) or (isinstance(self.folds, int) and self.folds < 2):
            raise ValueError(f"folds is {self.folds}; expected at least 2, or a column's name.")
        if not 0 <= self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share}; expected from 0 to below 1.")
        if not 0 < self.validation_share < 1:
            raise ValueError(
                f"validation_share is {self.validation_share}; expected more than 0 and below 1: "
                "the best epoch and the temperature are chosen on that part."
            )


@dataclass(frozen=True)
class Division:
    """Rows in parts, once, or once a fold.

    Attributes
    ----------
    parts
        By the name of the fold, or ``""`` for the one division: numbers of rows.
    final
        The parts of the model that is kept: of folds, no row is tested on.
    name_of
        One a row: its fold, or its part; ``""`` where it has none.
    names
        All of those, in their order.
    """

    parts: dict[str, Parts]
    final: Parts
    name_of: np.ndarray
    names: tuple[str, ...]

    @property
    def tested(self) -> bool:
        """Whether any row is tested on."""
        return any(len(parts.test) for parts in self.parts.values())


def divide_rows(adata: AnnData, target: Target, usable: np.ndarray, wish: Wish) -> Division:
    """Divide the rows that have something to learn and can be read.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If rows or groups are too few, a class could not be learnt because all its rows are in the
        part that is tested on, or a column of folds parts a group.
    """
    rows = np.flatnonzero(usable & target.known)
    groups = read_groups(adata, wish.split_by, target.axis, rows)
    strata = target.strata[rows]
    if isinstance(wish.folds, str):
        fold, names = _read_folds(adata, wish.folds, target.axis, rows)
        _refuse_parted(adata, target.axis, wish, groups, fold, names, rows)
    else:
        fold, names = _draw_folds(wish, rows.size, groups, strata)
    if set(names) <= set(_NAMES.values()):
        division = _one(fold, names, wish, groups, strata)
    else:
        division = _several(fold, names, wish, groups, strata)
    _refuse_lost(target, rows, strata, division)
    return _of_all(division, rows, usable.size)


def _draw_folds(
    wish: Wish, n_rows: int, groups: np.ndarray | None, strata: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """One a row: number of its fold, and their names; or of train and test."""
    n_units = n_rows if groups is None else np.unique(groups).size
    if isinstance(wish.folds, int):
        if n_units < wish.folds:
            what = "rows" if groups is None else f"groups of {wish.split_by!r}"
            raise ValueError(f"{n_units:,} {what} cannot make {wish.folds} folds.")
        shares = (1 / wish.folds,) * wish.folds
        names = [str(i + 1) for i in range(wish.folds)]
    elif wish.test_share:
        shares, names = (1 - wish.test_share, wish.test_share), ["train", "test"]
        if n_units < 2:
            raise ValueError(f"{n_units} row cannot be divided into train and test.")
    else:
        return np.zeros(n_rows, np.int64), ["train"]
    return assign(n_rows, shares, groups=groups, strata=strata, seed=wish.seed), names


def _read_folds(
    adata: AnnData, column: str, axis: str, rows: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    found = read_groups(adata, column, axis, rows)
    assert found is not None  # a column was named
    values = getattr(adata, axis)[column].iloc[rows].astype("category")
    labels = [str(name) for name in values.cat.remove_unused_categories().cat.categories]
    nameless = np.array([not label.strip() for label in labels])[found]
    if nameless.any():
        raise ValueError(
            f"{share(int(nameless.sum()), rows.size)} rows have an empty text in "
            f"adata.{axis}[{column!r}]: name their fold, or leave them out."
        )
    parts = [_NAMES.get(label.lower()) for label in labels]
    if all(parts) and "train" in parts:
        names = [str(part) for part in dict.fromkeys(parts)]
        renumbered = np.array([names.index(str(part)) for part in parts])
        return renumbered[found], names
    if any(parts):
        raise ValueError(
            f"adata.{axis}[{column!r}] holds {first_names(labels, 8)}: parts need 'train' and else "
            "only 'validation' and 'test', and folds are called otherwise. Leave the other rows "
            "out, or rename the folds."
        )
    return found, labels


def _one(
    fold: np.ndarray,
    names: list[str],
    wish: Wish,
    groups: np.ndarray | None,
    strata: np.ndarray,
) -> Division:
    test = fold == names.index("test") if "test" in names else np.zeros(fold.size, bool)
    if "validation" in names:
        chosen_by = fold == names.index("validation")
        whole = groups is None or not shared_groups(groups, ~test & ~chosen_by, chosen_by).size
        train, validation, tested = map(np.flatnonzero, (~test & ~chosen_by, chosen_by, test))
        parts = Parts(train, validation, tested, whole)
    else:
        parts = _divide(test, wish, groups, strata)
    name_of = np.full(fold.size, "train", dtype=object)
    name_of[parts.validation], name_of[parts.test] = "validation", "test"
    return Division({"": parts}, parts, name_of, ("train", "validation", "test"))


def _several(
    fold: np.ndarray,
    names: list[str],
    wish: Wish,
    groups: np.ndarray | None,
    strata: np.ndarray,
) -> Division:
    parts = {name: _divide(fold == i, wish, groups, strata) for i, name in enumerate(names)}
    final = _divide(np.zeros(fold.size, bool), wish, groups, strata)
    return Division(parts, final, np.array(names, dtype=object)[fold], tuple(names))


def _divide(test: np.ndarray, wish: Wish, groups: np.ndarray | None, strata: np.ndarray) -> Parts:
    if (~test).sum() < 2:
        raise ValueError("Fewer than two rows are left to train on and to choose by.")
    return divide(
        test, validation_share=wish.validation_share, groups=groups, strata=strata, seed=wish.seed
    )


def _refuse_parted(
    adata: AnnData,
    axis: str,
    wish: Wish,
    groups: np.ndarray | None,
    fold: np.ndarray,
    names: list[str],
    rows: np.ndarray,
) -> None:
    if groups is None:
        return
    tested = [i for i, name in enumerate(names) if name not in ("train", "validation")]
    parted = {int(group) for i in tested for group in shared_groups(groups, fold == i, fold != i)}
    if not parted:
        return
    values = getattr(adata, axis)[wish.split_by].iloc[rows].astype(str).to_numpy()
    shown = [values[np.flatnonzero(groups == group)[0]] for group in sorted(parted)]
    raise ValueError(
        f"adata.{axis}[{wish.folds!r}] puts rows of {len(parted)} groups of {wish.split_by!r} into "
        f"more than one part ({first_names(shown)}): what is learnt of one would be tested on "
        "another of the same. Make the parts by group, or leave split_by out."
    )


def _refuse_lost(target: Target, rows: np.ndarray, strata: np.ndarray, division: Division) -> None:
    """Classes that some training would never see."""
    if target.kind != "classes":
        return
    for name, parts in {**division.parts, "": division.final}.items():
        missing = lost(strata, parts.train)
        if not missing.size:
            continue
        n = [f"{target.labels[i]} ({int((strata == i).sum()):,})" for i in missing.tolist()]
        where = f" of fold {name!r}" if name else ""
        raise ValueError(
            f"{len(n)} of {len(target.labels)} classes of {target.title} have no row in the "
            f"training part{where}: {first_names(n, 5)} {target.what}. No model can learn them "
            "there: leave these rows out, merge classes, split by something else, or choose "
            "another seed or fewer folds."
        )


def _of_all(division: Division, rows: np.ndarray, n: int) -> Division:
    """The same, in numbers of all rows."""

    def renumbered(parts: Parts) -> Parts:
        train, validation, test, whole = parts
        return Parts(rows[train], rows[validation], rows[test], whole)

    name_of = np.full(n, "", dtype=object)
    name_of[rows] = division.name_of
    parts = {name: renumbered(each) for name, each in division.parts.items()}
    return Division(parts, renumbered(division.final), name_of, division.names)


def read_groups(
    adata: AnnData, column: str | None, axis: str = "obs", rows: np.ndarray | None = None
) -> np.ndarray | None:
    """int64, one a row (of those that are named): its group, by name; ``None`` without a column.

    Raises
    ------
    KeyError
        If there is no such column.
    ValueError
        If it is missing for some rows, or the same for all.
    """
    if column is None:
        return None
    frame = getattr(adata, axis)
    if column not in frame:
        raise KeyError(
            f"adata.{axis} has no column {column!r} to split by; it has "
            f"{first_names(frame.columns, 10) or 'no columns'}."
        )
    if rows is not None:
        frame = frame.iloc[rows]
    labels = frame[column].astype("category").cat.remove_unused_categories()
    missing = labels.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"{share(int(missing.sum()), missing.size)} rows have no value in "
            f"adata.{axis}[{column!r}] ({first_names(frame.index[missing])}), so it is not known "
            "on which side they belong. Leave them out, or name them."
        )
    if len(labels.cat.categories) < 2:
        raise ValueError(
            f"All rows have the same value in adata.{axis}[{column!r}] "
            f"({labels.cat.categories[0]!r}): they cannot be split by it."
        )
    return labels.cat.codes.to_numpy().astype(np.int64)
