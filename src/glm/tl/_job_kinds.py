"""Jobs: which rows, of which model, on what device; all that another process needs for its part."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from .._progress import progress_bar
from ..models.bundle import Model

if TYPE_CHECKING:
    import torch

    from ..engine import Items, Plan, Runner
    from ..engine.run import Executor, ItemExecutor


class RowSource(Protocol):
    """Sentences of the rows of a user's object (cells, regions), in blocks of whole rows.

    Any block can be asked for, in any process: a source can be pickled.

    Attributes
    ----------
    unit
        What the rows are called: ``"cells"``, ``"regions"``.
    n_rows
        Rows of the object, those without a sentence included.
    n_usable
        Rows that have a sentence.
    n_truncated
        Rows of which the model reads only a part.
    n_blocks
        How many blocks there are.
    """

    @property
    def unit(self) -> str: ...

    @property
    def n_rows(self) -> int: ...

    @property
    def n_usable(self) -> int: ...

    @property
    def n_truncated(self) -> int: ...

    @property
    def n_blocks(self) -> int: ...

    def n_items(self, block: int) -> int:
        """Items of a block."""

    def lengths(self, block: int) -> np.ndarray:
        """int64, tokens of each item of a block, in the order of :meth:`block`."""

    def block(self, block: int) -> Items:
        """The items of a block, the same at every call; all items of a row are in one block."""

    def facts(self) -> dict[str, Any]:
        """Everything of the data that decides the bits of a result; may read them all once."""


def packed_bert(model: Model, plan: Plan) -> Executor:
    """The packed executor of a model's encoder."""
    from ..models.fast.bert import PackedBert

    return PackedBert(model.encoder, device=plan.device, dtype=plan.dtype)


class AnyJob(ABC):
    """What is to be computed of which rows: all that another process needs for its part.

    What reads sentences is a :class:`Job`; others say themselves what of their model counts.

    Attributes
    ----------
    source
        The items.
    plan
        Device, precision, budget.
    what
        What is done, for the progress bar.
    """

    source: RowSource
    plan: Plan
    what: str

    @property
    @abstractmethod
    def name(self) -> str:
        """The model's name."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers of a row's result."""

    @property
    def reading(self) -> dict[str, Any]:
        """What the engine is told of the executor's ``hidden``; nothing, if that reads items."""
        return {}

    @abstractmethod
    def executor(self, plan: Plan) -> Executor | ItemExecutor:
        """The model on its device."""

    @abstractmethod
    def facts_of_model(self) -> dict[str, Any]:
        """Everything of the model, and of how it is read, that decides the bits of a result."""

    @abstractmethod
    def memory(self, longest: int) -> dict[str, int]:
        """Bytes of weights and of the largest batch, for items of up to so many tokens."""

    def runner(self, advance: Callable[[int], None], device: torch.device | None = None) -> Runner:
        """What runs the items, on the plan's device or another."""
        from ..engine import Runner

        plan = self.plan if device is None else dataclasses.replace(self.plan, device=device)
        return Runner(
            self.executor(plan),
            plan,
            progress=lambda n_items, _: advance(n_items),
            **self.reading,
        )

    def progress(self, *, shown: bool = True) -> AbstractContextManager[Callable[[int], None]]:
        """A bar of the items."""
        if not shown:
            return nullcontext(_unseen)
        n_items = sum(map(self.source.n_items, range(self.source.n_blocks)))
        return progress_bar(n_items, self.source.unit, f"{self.what} with {self.name}")

    def all_facts(self) -> dict[str, Any]:
        """Everything that decides the bits of the result; reads all data once."""
        return {
            "model": self.name,
            **self.facts_of_model(),
            "device": self.plan.device.type,
            "precision": self.plan.precision,
            "token_budget": self.plan.budget,
            **self.source.facts(),
        }


OneJob = TypeVar("OneJob", bound=AnyJob)


@dataclass(frozen=True)
class Job(AnyJob):
    """A job of a model that reads sentences.

    Attributes
    ----------
    source, model
        The sentences, and the model that reads them.
    plan
        Device, precision, budget.
    layer, first_only
        What is read of the model.
    facts
        What else the result depends on. To these, and what the job knows itself, a work folder is
        held.
    what
        What is done, for the progress bar.
    make_executor
        Makes the executor; like everything here, something that processes can send each other.
    """

    source: RowSource
    model: Model
    plan: Plan
    layer: int
    first_only: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    what: str = "embed"
    make_executor: Callable[[Model, Plan], Executor] = packed_bert

    @property
    def name(self) -> str:
        return self.model.spec.name

    @property
    def width(self) -> int:
        return self.model.spec.shape.hidden_size

    @property
    def reading(self) -> dict[str, Any]:
        return {"layer": self.layer, "first_only": self.first_only}

    def executor(self, plan: Plan) -> Executor:
        return self.make_executor(self.model, plan)

    def facts_of_model(self) -> dict[str, Any]:
        return {
            "encoder_sha256": _encoder_sha256(self.model),
            "vocabulary_sha256": self.model.vocabulary.sha256,
            "n_layers_run": self.layer,
            "first_only": self.first_only,
            **self.facts,
        }

    def memory(self, longest: int) -> dict[str, int]:
        from ..engine import memory

        n_weights = sum(parameter.numel() for parameter in self.model.encoder.parameters())
        return memory(self.model.spec.shape, self.plan, n_weights=n_weights, longest=longest)


def _unseen(n_items: int) -> None:
    """No bar: another process shows it."""


def _encoder_sha256(model: Model) -> str:
    """A hash of the weights as they are: those that were read from a file may have been changed."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()
