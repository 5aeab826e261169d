"""The engine: items sorted into token budgets, run by an executor, gathered by a reducer.

:func:`run` streams blocks through. A job (:mod:`~glm.engine.job`) also cuts them into shards, which
a work folder (:mod:`~glm.engine.shards`) keeps and several processes
(:mod:`~glm.engine.devices`) share.
"""

from __future__ import annotations

from .devices import Team, assemble
from .estimate import RunPlan, count_batches, estimate_seconds, memory
from .items import Items, batches
from .job import Source, compute_shards, cut, gather, states
from .plan import Plan, make_plan
from .reduce import PoolRows, Reducer
from .run import Runner, run
from .shards import WorkFolder, read_facts
from .sinks import ArraySink, FileSink, Sink

__all__ = [
    "ArraySink",
    "FileSink",
    "Items",
    "Plan",
    "PoolRows",
    "Reducer",
    "RunPlan",
    "Runner",
    "Sink",
    "Source",
    "Team",
    "WorkFolder",
    "assemble",
    "batches",
    "compute_shards",
    "count_batches",
    "cut",
    "estimate_seconds",
    "gather",
    "make_plan",
    "memory",
    "read_facts",
    "run",
    "states",
]
