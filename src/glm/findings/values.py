"""Whether values are counts, or what they are instead."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._messages import counted
from ..encode.counts import CountSummary
from ..report import Finding

# log1p of any count that a cell can have stays below this; raw counts of whole objects exceed it.
_LOG1P_LIMIT = 20.0


Place = tuple[int, int, float]


def describe_values(summary: CountSummary, where: str, *, log_normalized: bool) -> Finding:
    """What the values are, where nothing is wrong with them."""
    if not summary.n_stored:
        return Finding(
            "values",
            "warning",
            f"{where} holds nothing but zeros.",
            "Say where the counts are: layer= or use_raw=True.",
        )
    filled = 100 * summary.n_stored / (summary.n_rows * summary.n_columns)
    kind = "log1p of counts, to be undone" if log_normalized else "whole numbers, as raw counts are"
    return Finding(
        "values",
        "ok",
        f"{where} holds {kind}: up to {summary.max:,.6g}, {filled:.0f}% not zero.",
    )


def looks_log_normalized(summary: CountSummary) -> bool:
    """Whether values are such as log1p makes: fractions, none negative, none large."""
    bad = summary.n_not_finite + summary.n_negative
    return not bad and summary.n_fractional > 0 and summary.max < _LOG1P_LIMIT


def are_logged(values: np.ndarray) -> bool:
    """The same of some of the values; ``False`` where there are none."""
    if not values.size or values.min() < 0:
        return False
    return bool(values.max() < _LOG1P_LIMIT and (values % 1).any())


def find_bad_values(
    summary: CountSummary,
    where: str,
    *,
    place: Callable[[Place | None], str],
    log_normalized: bool,
    elsewhere: Callable[[], str],
    log_elsewhere: Callable[[], str],
) -> Finding | None:
    """An error where values are not what they are said to be: counts, or log1p of them.

    ``elsewhere`` says what to do about values that are no counts, ``log_elsewhere`` which option
    takes log1p of counts; they are only called where needed, since they look in other places.
    """
    if summary.n_not_finite:
        are = "is" if summary.n_not_finite == 1 else "are"
        return Finding(
            "values",
            "error",
            f"{where} holds {counted(summary.n_not_finite, 'value')} that {are} not finite (first: "
            f"{place(summary.first_not_finite)}).",
            "Expected counts; mend or remove them.",
        )
    if summary.n_negative:
        return Finding(
            "values",
            "error",
            f"{where} holds {counted(summary.n_negative, 'negative value')} (first: "
            f"{place(summary.first_negative)}): scaled or centred data cannot be ranked.",
            f"{elsewhere()}{_or_undo_log(log_elsewhere())}.",
        )
    if log_normalized:
        return _find_bad_log1p(summary, where)
    if summary.n_fractional:
        percent = 100 * summary.n_fractional / max(summary.n_stored, 1)
        logged = looks_log_normalized(summary)
        undo = ", or log_normalized=True to undo log1p first" if logged else ""
        return Finding(
            "values",
            "error",
            f"{where} looks {'log-normalised' if logged else 'normalised'} (max {summary.max:.4g}, "
            f"{percent:.0f}% of the values are not whole; first: "
            f"{place(summary.first_fractional)}). Geneformer ranks raw counts.",
            f"{elsewhere()}{undo}.",
        )
    return None


def _or_undo_log(option: str) -> str:
    if not option:
        return ""
    return f", or {option} with log_normalized=True, since that looks log-normalised"


def _find_bad_log1p(summary: CountSummary, where: str) -> Finding | None:
    if summary.max > _LOG1P_LIMIT:
        return Finding(
            "values",
            "error",
            f"log_normalized=True, but {where} reaches {summary.max:.6g}: no log1p of a count does "
            "that.",
            "Leave it out for raw counts.",
        )
    if summary.n_stored and not summary.n_fractional:
        return Finding(
            "values",
            "error",
            f"log_normalized=True, but all {summary.n_stored:,} values of {where} are whole: these "
            "are counts.",
            "Leave it out.",
        )
    return None
