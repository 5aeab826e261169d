"""What an AnnData of counts is held to: every threshold, and the wording of every finding.

The verbs refuse what is an error here and warn of what is a warning; :func:`glm.pp.check` lists it
all. Each rule takes plain facts and returns one finding, or none where it has nothing to say.
"""

from __future__ import annotations

from .cells import find_depth, find_empty, find_totals, find_truncation
from .coverage import find_coverage, find_subset
from .gather import about_counts, about_names, about_values
from .names import (
    REPEATED,
    find_dates,
    find_id_system,
    find_kinds,
    find_renamed,
    find_summed,
    may_be_symbols,
)
from .values import describe_values, find_bad_values, looks_log_normalized

__all__ = [
    "REPEATED",
    "about_counts",
    "about_names",
    "about_values",
    "describe_values",
    "find_bad_values",
    "find_coverage",
    "find_dates",
    "find_depth",
    "find_empty",
    "find_id_system",
    "find_kinds",
    "find_renamed",
    "find_subset",
    "find_summed",
    "find_totals",
    "find_truncation",
    "looks_log_normalized",
    "may_be_symbols",
]
