"""How the authors trained, as values that can be changed one by one."""

from __future__ import annotations

from dataclasses import dataclass

from ..models.registry import get


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and masking of a training run.

    Attributes
    ----------
    learning_rate
        Highest learning rate of AdamW.
    warmup_steps
        Steps over which it rises from zero, linearly; it falls to zero, linearly, over the rest.
    weight_decay
        Of AdamW; biases and LayerNorm are left out.
    mask_share
        Share of the sentence's tokens that are predicted.
    mask_as_mask, mask_as_random
        Shares of those that are shown as ``<mask>`` and as a random gene; the rest is shown as is.
    tokens_per_batch
        Tokens of a batch, padding included.
    max_epochs
        Passes over the data.
    gradient_clip
        Largest norm of the gradient, 0 for none.
    min_genes
        Cells with fewer ranked genes are left out.
    precision
        Lightning's name of the precision: ``"32-true"``, ``"bf16-mixed"``.
    seed
        Decides order, masks and dropout.
    """

    learning_rate: float
    warmup_steps: int
    weight_decay: float
    mask_share: float
    mask_as_mask: float
    mask_as_random: float
    tokens_per_batch: int
    max_epochs: int
    gradient_clip: float = 1.0
    min_genes: int = 7
    precision: str = "32-true"
    seed: int = 0


# Geneformer's pretraining :cite:p:`theodoris2023`: AdamW, 1e-3, linear with 10,000 steps of
# warm-up, decay 0.001, 15% of tokens masked 80/10/10, 12 cells a device on 12 devices, 3 epochs,
# cells with fewer than 7 genes left out; the gradient norm of 1.0 is its trainer's default.
_GENEFORMER = Recipe(
    learning_rate=1e-3,
    warmup_steps=10_000,
    weight_decay=0.001,
    mask_share=0.15,
    mask_as_mask=0.8,
    mask_as_random=0.1,
    tokens_per_batch=12 * 2048,
    max_epochs=3,
)


def recipe(model: str) -> Recipe:
    """Return the authors' way of pretraining a model.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`.

    Returns
    -------
    The recipe; change it with :func:`dataclasses.replace`.

    Examples
    --------
    >>> import glm
    >>> glm.train.recipe("geneformer-v1-10m").learning_rate
    0.001
    """
    spec = get(model)
    if spec.system != "geneformer":
        raise KeyError(f"There is no recipe for {spec.system} yet; known is geneformer.")
    return _GENEFORMER
