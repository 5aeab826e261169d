"""What every metric asks of its arrays, in one wording."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._messages import first_names, share


def as_labels(labels: Any, name: str) -> np.ndarray:
    """Labels, one a row: text, whole numbers or truth values, of any array, Series or list.

    Raises
    ------
    ValueError
        If there are none, they have several dimensions, or some are missing.
    """
    import pandas as pd

    array = np.asarray(labels)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} has the shape {array.shape}; expected one label a row.")
    missing = np.asarray(pd.isna(array))
    if missing.any():
        raise ValueError(
            f"{share(int(missing.sum()), array.size)} labels of {name} are missing (rows "
            f"{first_names(np.flatnonzero(missing))}): leave these rows out."
        )
    return array.astype(str) if array.dtype == object else array


def as_amounts(values: Any, name: str, *, ndim: int = 1) -> np.ndarray:
    """Finite numbers, float64.

    Raises
    ------
    ValueError
        If there are none, they have another number of dimensions, or some are not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or not array.size:
        expected = "one number a row" if ndim == 1 else "rows × columns"
        raise ValueError(f"{name} has the shape {array.shape}; expected {expected}.")
    rows = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    if rows.size:
        raise ValueError(
            f"{share(rows.size, len(array))} rows of {name} hold NaN or infinite values (rows "
            f"{first_names(rows)}): leave these rows out."
        )
    return array


def same_rows(**arrays: np.ndarray) -> None:
    """Refuse arrays of different lengths."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {n:,}" for name, n in lengths.items())
        raise ValueError(f"The arrays differ in their number of rows: {told}.")


def at_least_two(labels: np.ndarray, name: str, what: str) -> np.ndarray:
    """The different labels, sorted; refuses a single one."""
    found = np.unique(labels)
    if found.size < 2:
        raise ValueError(f"All of {name} is {str(found[0])!r}: {what} needs at least two classes.")
    return found


def n_neighbours(n: int, n_rows: int) -> int:
    """A number of neighbours that there are.

    Raises
    ------
    ValueError
        If it is below 1, or there are not so many other rows.
    """
    if not 1 <= n < n_rows:
        raise ValueError(
            f"n_neighbors is {n} with {n_rows:,} rows; expected 1 to {n_rows - 1:,}, the number of "
            "other rows."
        )
    return n
