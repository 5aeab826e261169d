"""What of a model is read, and how it is run: the options that cells and regions share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..models.bundle import Model
from ..models.vocabulary import GeneVocabulary

if TYPE_CHECKING:
    from ..models.config import Pooling
    from ..models.kinds import Vocabulary
    from ..models.registry import ModelSpec
    from ..models.track_model import TrackSpec
    from ._job import Devices


@dataclass(frozen=True)
class Run:
    """The options of :func:`glm.tl.embed` that mean the same for cells and for regions."""

    pooling: Pooling | None
    hidden_layer: str | int | None
    device: str | None
    precision: Literal["float32", "bfloat16"] | None
    token_budget: int | None
    out: str | Path | None
    devices: Devices
    strategy: str
    key_added: str | None
    overwrite: bool
    copy: bool
    dry_run: bool

    def layer_of(self, spec: ModelSpec) -> tuple[str | int, int]:
        """The hidden state that is read, as asked for, and the layers below it."""
        layer = spec.hidden_layer if self.hidden_layer is None else self.hidden_layer
        return layer, spec.shape.layer_index(layer)


def reads_dna(model: Any, spec: ModelSpec) -> bool:
    """Whether a model reads regions of a genome; else it reads cells.

    Of published models their row tells, so that nothing is fetched before all is checked.
    """
    if spec.folder is None and not isinstance(model, Model):
        return spec.system != "geneformer"
    vocabulary = model.vocabulary if isinstance(model, Model) else spec.vocabulary()
    return not isinstance(vocabulary, GeneVocabulary)


def refuse_foreign(spec: ModelSpec | TrackSpec, reads: str, given: dict[str, Any]) -> None:
    """Refuse options that mean nothing to what the model reads."""
    wrong = [name for name, value in given.items() if value]
    if wrong:
        other = "cells" if reads == "DNA" else "DNA"
        raise TypeError(
            f"{spec.name} reads {reads}: {', '.join(wrong)} {'are' if wrong[1:] else 'is'} for "
            f"models that read {other}. Leave it out, or name another model "
            "(glm.models.list() shows what each reads)."
        )


def check_pooling(
    spec: ModelSpec, vocabulary: Vocabulary, pooling: Pooling | None, *, pooled: bool = True
) -> Pooling:
    """The pooling that was asked for, or the authors' own.

    Raises
    ------
    ValueError
        If there is no such pooling, or (where vectors are ``pooled``) the model lacks the token.
    """
    chosen = pooling or spec.pooling
    if chosen not in ("mean", "cls"):
        raise ValueError(f"pooling is {chosen!r}; expected 'mean', 'cls' or None.")
    if pooled and chosen == "cls" and "cls" not in vocabulary.special:
        raise ValueError(f"{spec.name} has no <cls> token to pool; use pooling='mean'.")
    return chosen


def check_window_reading(run: Run, spec: TrackSpec) -> None:
    """Refuse what is of sentences, for a model that reads windows and predicts tracks.

    Raises
    ------
    TypeError, ValueError
        If a layer or a token budget is named, or another pooling than the mean over bins.
    """
    wrong = [name for name in ("hidden_layer", "token_budget") if getattr(run, name) is not None]
    if wrong:
        raise TypeError(
            f"{spec.name} reads windows of DNA, one at a time: {' and '.join(wrong)} "
            f"{'are' if wrong[1:] else 'is'} of models that read sentences. Leave it out."
        )
    if run.pooling not in (None, "mean"):
        raise ValueError(
            f"pooling is {run.pooling!r}; {spec.name} has no <cls> token, and its embedding of a "
            "region is the mean over its bins: expected 'mean' or None."
        )
