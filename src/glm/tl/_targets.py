"""What a model is to learn: labels by name, or amounts, checked, with what is missing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._labels import read_labels
from .._messages import first_names, share

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

Kind = Literal["classes", "multi_label", "regression", "counts"]
Axis = Literal["obs", "var"]

_KINDS = ("classes", "multi_label", "regression", "counts")


@dataclass(frozen=True)
class Target:
    """What is to be learnt of each cell, or each gene.

    Attributes
    ----------
    name
        The column of ``obs`` or ``var``, or the matrix of ``obsm`` or ``varm``.
    axis
        Whether rows are cells (``"obs"``) or genes (``"var"``).
    kind
        One class a row, any number of labels, an amount of any sign, or a count.
    labels
        Names of the classes or labels; of an amount, the name of the column.
    values
        One a row: int64 place of its class in ``labels``, -1 where there is none; or float32, rows
        × labels or one amount a row, NaN where nothing is known.
    """

    name: str
    axis: Axis
    kind: Kind
    labels: tuple[str, ...]
    values: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """bool, one a row: whether there is anything to learn of it."""
        if self.kind == "classes":
            return self.values >= 0
        return np.isfinite(self.values).reshape(len(self.values), -1).any(axis=1)

    @property
    def strata(self) -> np.ndarray:
        """int64, one a row: what is to be spread evenly over parts."""
        if self.kind == "classes":
            return np.maximum(self.values, 0)
        if self.kind in ("regression", "counts"):
            amounts = self.values[self.known]
            steps = np.quantile(amounts, np.linspace(0, 1, 11)[1:-1]) if amounts.size else []
            return np.searchsorted(steps, np.nan_to_num(self.values)).astype(np.int64)
        # Of several labels the rarest: there are most of the others anyway.
        has = np.nan_to_num(self.values) > 0
        rarity = np.argsort(has.sum(axis=0), kind="stable")
        first = has[:, rarity].argmax(axis=1)
        return np.where(has.any(axis=1), first + 1, 0).astype(np.int64)

    @property
    def title(self) -> str:
        """What a message calls it."""
        matrix = self.kind == "multi_label"
        return f"adata.{self.axis}{'m' if matrix else ''}[{self.name!r}]"

    @property
    def what(self) -> str:
        """What a row is."""
        return "cells" if self.axis == "obs" else "genes"


def read_target(
    adata: AnnData, name: str, *, axis: Axis | None = None, kind: Kind | None = None
) -> Target:
    """Find a target and say what kind it is.

    Text, categories and truth values are classes, fractions are amounts, a matrix is one of labels;
    whole numbers could be both, and ``kind`` says which.

    Raises
    ------
    KeyError
        If there is no such column or matrix.
    ValueError
        If it stands on both axes, its kind is not clear, it holds one class only or no value at
        all, classes have the same name, or amounts are infinite or all alike.
    TypeError
        If its values are neither.
    """
    axis, matrix = _find(adata, name, axis)
    if kind not in (None, *_KINDS):
        raise ValueError(f"kind is {kind!r}; expected {', '.join(map(repr, _KINDS))} or None.")
    if matrix:
        return _read_matrix(getattr(adata, f"{axis}m")[name], name, axis, kind)
    column = getattr(adata, axis)[name]
    chosen = kind or _kind_of(column, f"adata.{axis}[{name!r}]")
    if chosen == "multi_label":
        raise ValueError(
            f"kind='multi_label' is for a matrix of truth values, rows × labels, in "
            f"adata.{axis}m; adata.{axis}[{name!r}] is a column."
        )
    rows = getattr(adata, f"{axis}_names")
    if chosen == "classes":
        return _read_classes(column, name, axis, rows)
    return _read_amounts(column, name, axis, rows, chosen)


def _find(adata: AnnData, name: str, axis: Axis | None) -> tuple[Axis, bool]:
    """The axis, and whether it is a matrix there."""
    if axis not in (None, "obs", "var"):
        raise ValueError(f"axis is {axis!r}; expected 'obs' (cells), 'var' (genes) or None.")
    axes: tuple[Axis, ...] = ("obs", "var") if axis is None else (axis,)
    places = [
        (each, matrix)
        for each in axes
        for matrix in (False, True)
        if name in getattr(adata, f"{each}m" if matrix else each)
    ]
    if not places:
        had = "; ".join(f"adata.{each} has {_columns(getattr(adata, each))}" for each in axes)
        raise KeyError(f"There is no target {name!r}: {had}.")
    if len(places) > 1:
        where = " and ".join(f"adata.{each}{'m' if matrix else ''}" for each, matrix in places)
        raise ValueError(
            f"{name!r} is in {where}. Pass axis='obs' for cells or axis='var' for genes, or rename "
            "one of them."
        )
    return places[0]


def _columns(frame: pd.DataFrame) -> str:
    return first_names(frame.columns, 10) or "no columns"


def _kind_of(column: pd.Series, title: str) -> Kind:
    import pandas as pd

    kinds = pd.api.types
    if kinds.is_bool_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype):
        return "classes"
    if kinds.is_integer_dtype(column.dtype):
        raise ValueError(
            f"{title} holds whole numbers ({column.dtype}), which could be names of classes or "
            "amounts. Say kind='classes', 'regression' or 'counts'."
        )
    if kinds.is_float_dtype(column.dtype):
        return "regression"
    if kinds.is_string_dtype(column.dtype) or kinds.is_object_dtype(column.dtype):
        return "classes"
    raise TypeError(
        f"{title} is of type {column.dtype}; expected labels (text, categories, truth values) or "
        "numbers."
    )


def _read_classes(column: pd.Series, name: str, axis: Axis, rows: pd.Index) -> Target:
    title = f"adata.{axis}[{name!r}]"
    labels, values = read_labels(column, title)
    if len(labels) < 2:
        what = "cells" if axis == "obs" else "genes"
        n = int((values >= 0).sum())
        found = f"one class only, {labels[0]!r}," if labels else "no label"
        raise ValueError(
            f"{title} has {found} in {share(n, len(rows))} {what}; expected at least two classes."
        )
    return Target(name, axis, "classes", tuple(labels), values)


def _read_amounts(column: pd.Series, name: str, axis: Axis, rows: pd.Index, kind: Kind) -> Target:
    import pandas as pd

    title = f"adata.{axis}[{name!r}]"
    if not pd.api.types.is_numeric_dtype(column.dtype):
        raise TypeError(f"{title} is of type {column.dtype}; kind={kind!r} needs numbers.")
    amounts = column.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.isinf(amounts)
    if infinite.any():
        raise ValueError(
            f"{share(int(infinite.sum()), amounts.size)} values of {title} are infinite "
            f"({first_names(rows[infinite])}). Make them NaN to leave them out."
        )
    known = amounts[np.isfinite(amounts)]
    if not known.size or np.ptp(known) == 0:
        found = f"the same value everywhere ({known[0]:g})" if known.size else "no value"
        raise ValueError(f"{title} has {found}: there is nothing to learn.")
    if kind == "counts" and known.min() < 0:
        raise ValueError(
            f"{title} holds values below zero (the lowest is {known.min():g}), which are no "
            "counts; kind='regression' takes amounts of any sign."
        )
    return Target(name, axis, kind, (name,), amounts.astype(np.float32))


def _read_matrix(matrix: Any, name: str, axis: Axis, kind: Kind | None) -> Target:
    title = f"adata.{axis}m[{name!r}]"
    if kind not in (None, "multi_label"):
        raise ValueError(f"{title} is a matrix, which kind={kind!r} does not take; a column is.")
    labels, values = _as_table(matrix, name, title)
    known = np.isfinite(values)
    if ((values[known] != 0) & (values[known] != 1)).any():
        raise ValueError(
            f"{title} holds other values than 0 and 1 (or True and False), so it is no matrix of "
            "labels."
        )
    if len(set(labels)) < len(labels):
        raise ValueError(f"{title} has labels of the same name. Rename them.")
    present = np.nansum(values, axis=0)
    flat = [
        label
        for label, n, n_known in zip(labels, present, known.sum(axis=0), strict=True)
        if n in (0, n_known)
    ]
    if flat:
        raise ValueError(
            f"{len(flat)} of {len(labels)} labels of {title} are the same in all rows "
            f"({first_names(flat)}): there is nothing to learn. Leave them out."
        )
    return Target(name, axis, "multi_label", tuple(labels), values)


def _as_table(matrix: Any, name: str, title: str) -> tuple[list[str], np.ndarray]:
    """Names of the columns, and float32 values with NaN where they are missing."""
    import pandas as pd

    if isinstance(matrix, pd.DataFrame):
        table = matrix
    else:
        dense = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
        table = pd.DataFrame(dense)
        table.columns = [f"{name}_{i}" for i in range(table.shape[1])]
    try:
        values = table.to_numpy(dtype=np.float32, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{title} holds other things than truth values ({error}).") from error
    return [str(label) for label in table.columns], values


def first_of_gene(target: Target, first: np.ndarray, names: pd.Index) -> Target:
    """Give each gene one value, at the first of the columns that share it.

    ``first`` is one a column: the first column of the same gene, below 0 where it is none.

    Raises
    ------
    ValueError
        If columns of one gene have different values.
    """
    values, known = target.values.copy(), target.known
    absent = -1 if target.kind == "classes" else np.nan
    different: list[str] = []
    for column in np.flatnonzero((first >= 0) & (first != np.arange(first.size)) & known):
        place = first[column]
        if not known[place]:
            values[place], known[place] = values[column], True
        elif not np.array_equal(values[place], values[column], equal_nan=True):
            different += [f"{names[place]} and {names[column]}"]
        values[column] = absent
    if different:
        raise ValueError(
            f"{len(different)} genes stand in several columns with different values in "
            f"{target.title} ({first_names(different)}). Decide, or leave them out."
        )
    return dataclasses.replace(target, values=values)
