"""Objectives: what is hidden from a model or asked of it, and how wrong its answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ...models.config import Task
    from ..batches import Batch
    from ..sentences import Sentences
    from .classify import Classification, balanced_weights
    from .masked import MaskedTokens, mask_tokens
    from .regress import Poisson, Regression
    from .spans import KmerSpans, mask_spans
    from .tracks import TrackPoisson

__all__ = [
    "Classification",
    "KmerSpans",
    "MaskedTokens",
    "Objective",
    "Poisson",
    "Regression",
    "TrackPoisson",
    "balanced_weights",
    "mask_spans",
    "mask_tokens",
]


@runtime_checkable
class Objective(Protocol):
    """What a model is trained for. A frozen dataclass: its fields are what a resumed run compares.

    Attributes
    ----------
    level
        Whether a whole sentence (``"row"``) or each token has an output.
    n_outputs
        Outputs of the head that is put on the encoder; ``None`` is the head that predicts tokens.
    labels
        Names of the outputs, ``()`` for tokens.
    task
        How outputs are to be read: :data:`glm.models.config.Task`.
    monitor
        The value of the log by which the best epoch is chosen, and whether low or high is good:
        ``("held_out_loss", "min")``.
    """

    @property
    def level(self) -> Literal["row", "token"]: ...
    @property
    def n_outputs(self) -> int | None: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def task(self) -> Task: ...
    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]: ...

    def check(self, sentences: Sentences) -> None:
        """Raise ``ValueError`` where the sentences (their targets, say) do not fit."""
        ...

    def batch(
        self,
        sentences: Sentences,
        chosen: np.ndarray,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> Batch:
        """Make the batch of the chosen sentences on the CPU; every draw comes from ``rng``."""
        ...

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean loss, float32, over what ``batch.weight`` counts."""
        ...

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Other means over the same, by name, for the log (``{"accuracy": ...}``)."""
        ...


_HOME = {
    "Classification": "classify",
    "KmerSpans": "spans",
    "MaskedTokens": "masked",
    "Poisson": "regress",
    "Regression": "regress",
    "TrackPoisson": "tracks",
    "balanced_weights": "classify",
    "mask_spans": "spans",
    "mask_tokens": "masked",
}


def __getattr__(name: str) -> Any:
    """Import an objective when it is first used."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
