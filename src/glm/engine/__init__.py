"""The engine: items sorted into token budgets, run by an executor, gathered by a reducer."""

from __future__ import annotations

from .items import Items, batches
from .plan import Plan, make_plan
from .reduce import PoolRows, Reducer
from .run import run
from .sinks import ArraySink, Sink

__all__ = [
    "ArraySink",
    "Items",
    "Plan",
    "PoolRows",
    "Reducer",
    "Sink",
    "batches",
    "make_plan",
    "run",
]
