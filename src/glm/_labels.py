"""Labels by name: the same ones where a model learns them and where it is judged by them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._messages import first_names

if TYPE_CHECKING:
    import pandas as pd

# What is written where nothing is known; the last two are missing values that were made text.
_NO_LABEL = ("", "nan", "<NA>")


def read_labels(column: pd.Series, title: str) -> tuple[list[str], np.ndarray]:
    """Names of the labels that occur, and int64, one a row: its place among them, or -1.

    By name, never by the code of a category: codes change when an object is sliced. Whole numbers
    that are kept as fractions (because some are missing) are named as whole ones.

    Raises
    ------
    ValueError
        If they are fractions, or different labels have the same name.
    TypeError
        If values are no labels.
    """
    import pandas as pd

    if pd.api.types.is_float_dtype(column.dtype):
        column = _whole(column, title)
    try:
        categorical = column.astype("category").cat.remove_unused_categories()
    except TypeError as error:
        raise TypeError(f"{title} holds values that are no labels ({error}).") from error
    by_place = [str(label) for label in categorical.cat.categories]
    repeated = sorted({label for label in by_place if by_place.count(label) > 1})
    if repeated:
        raise ValueError(
            f"{title} has different labels of the same name ({first_names(repeated)}). Rename them."
        )
    labels = [label for label in by_place if label.strip() not in _NO_LABEL]
    place = {label: i for i, label in enumerate(labels)}
    renumbered = np.array([place.get(label, -1) for label in by_place] + [-1], np.int64)
    return labels, renumbered[categorical.cat.codes.to_numpy()]


def _whole(column: pd.Series, title: str) -> pd.Series:
    known = column.dropna()
    if (known % 1 != 0).any():
        raise ValueError(
            f"{title} holds fractions ({column.dtype}), expected names of classes. Cut it into "
            "classes first, for example with pandas.cut, or pass kind='regression'."
        )
    return column.astype("Int64")
