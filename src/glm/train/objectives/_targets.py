"""What objectives with targets share: which rows or tokens have one, and the batch that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from ..batches import Batch
from ..sentences import Sentences

Level = Literal["row", "token"]
Known = Callable[[np.ndarray], np.ndarray]
"""Targets → bool, one a row: whether there is one."""


def check_level(level: str) -> None:
    """Refuse a level that is none."""
    if level not in ("row", "token"):
        raise ValueError(
            f"level is {level!r}; expected 'row' (a target for each sentence) or 'token' (one for "
            "each token)."
        )


def check_labels(labels: tuple[str, ...], least: int) -> None:
    """Refuse names that are too few, or not each one's own."""
    if not isinstance(labels, tuple) or not all(isinstance(label, str) for label in labels):
        raise TypeError(f"labels is {labels!r}; expected a tuple of names.")
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if len(labels) < least or repeated:
        found = f"{len(labels)} ({', '.join(labels[:3])})" if not repeated else f"twice {repeated}"
        raise ValueError(f"labels names {found}; expected at least {least}, each once.")


def check_targets(
    sentences: Sentences, level: Level, width: int | None, known_of: Known
) -> np.ndarray:
    """The targets, which must be one a row or token, or ``width`` of them.

    Raises
    ------
    ValueError
        If there are none, they have another shape, or sentences are without (of tokens, all).
    """
    targets = sentences.targets
    if targets is None:
        raise ValueError("The sentences have no targets: there is nothing to learn.")
    n = len(sentences) if level == "row" else sentences.tokens.size
    shapes = [(n,)] if width is None else [(n, width)] + [(n,)] * (width == 1)
    if targets.shape not in shapes:
        what = "sentence" if level == "row" else "token"
        raise ValueError(
            f"The targets have the shape {targets.shape}; expected {shapes[0]}: one row for each "
            f"{what}{'' if width is None else f', one column for each of {width} outputs'}."
        )
    known = known_of(targets)
    if level == "row" and not known.all():
        rows = np.flatnonzero(~known)
        raise ValueError(
            f"{rows.size:,} of {n:,} sentences have no target (the first is number {rows[0]:,}): "
            "leave them out."
        )
    if not known.any():
        raise ValueError("No token has a target: there is nothing to learn.")
    return targets[known]


def some_known(targets: np.ndarray) -> np.ndarray:
    """bool, one a row: whether any of its targets is a number."""
    return np.isfinite(targets).reshape(len(targets), -1).any(axis=1)


def asking(sentences: Sentences, chosen: np.ndarray, level: Level, known_of: Known) -> Batch:
    """The batch that asks for the targets of the chosen sentences, and weighs their number.

    Of tokens without a target nothing is asked.
    """
    tokens = sentences.padded(chosen, 0)  # whatever stands under False in the mask
    lengths = sentences.offsets[chosen + 1] - sentences.offsets[chosen]
    inside = np.arange(tokens.shape[1]) < lengths[:, None]
    assert sentences.targets is not None  # `check` has seen to it
    positions = None
    if level == "row":
        asked = sentences.targets[chosen]
    else:
        asked = sentences.targets[sentences.places(chosen)]
        known = known_of(asked)
        asked = asked[known]
        positions = torch.from_numpy(np.flatnonzero(inside)[known])
    return Batch(
        torch.from_numpy(tokens),
        torch.from_numpy(inside),
        torch.from_numpy(np.asarray(chosen, np.int64)),
        positions,
        torch.from_numpy(np.ascontiguousarray(asked)),
        float(len(asked)),
    )
