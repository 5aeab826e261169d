"""The plain Enformer :cite:p:`avsec2021`: DNA to tracks in bins of 128 bases.

A stem and six tower layers of convolutions, each of which halves the positions; transformer blocks
with relative positions; one linear map a head. Everything here is differentiable and written to be
read; :mod:`glm.models.fast.enformer` runs the same weights faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..bases import N
from .enformer_config import BIN_BP, EMBEDDINGS, EnformerConfig

__all__ = ["BIN_BP", "EMBEDDINGS", "Enformer", "EnformerConfig", "position_features"]

GELU_SLOPE = 1.702  # of the sigmoid that stands for the normal distribution in its GELU


class Enformer(nn.Module):
    """Sequences to tracks of one or more heads."""

    def __init__(self, config: EnformerConfig | None = None) -> None:
        super().__init__()
        config = EnformerConfig() if config is None else config
        self.config = config
        self.stem = Stem(config.stem)
        widths = (config.stem, *config.tower)
        self.tower = nn.ModuleList(TowerLayer(a, b) for a, b in pairwise(widths))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final = ConvBlock(config.channels, config.embedding_size, 1)
        self.final_dropout = nn.Dropout(config.dropout / 8)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.embedding_size, n) for name, n in config.heads.items()}
        )
        self.recompute = False
        """Whether activations are computed again for the gradient instead of kept: those of the
        transformer blocks, and in evaluation mode those of stem and tower (in training mode their
        norms would count a batch twice)."""
        self.gamma_over_features = False
        """Whether gamma features are scaled as in a widespread port instead of as published. For
        the comparison with vectors made by that port; wrong for anything else."""
        _initialise(self)

    def forward(
        self,
        sequence: Tensor,
        *,
        heads: Iterable[str] | None = None,
        crop: int | None = None,
        embeddings: bool = False,
    ) -> dict[str, Tensor]:
        """Predict tracks.

        Parameters
        ----------
        sequence
            Codes (uint8 or another whole type, batch × length; A 0, C 1, G 2, T 3, unknown 4), or
            numbers, batch × length × 4 in that order, through which a gradient can flow. The length
            is any multiple of 128.
        heads
            Which heads to compute; ``None`` is all.
        crop
            Bins to cut from each end; ``None`` is ``config.crop``.
        embeddings
            Also return what the heads read.

        Returns
        -------
        Head to batch × bins × tracks, not negative; with ``embeddings``, also ``"embeddings"``,
        batch × bins × ``config.embedding_size``.
        """
        names = self.check_heads(heads)
        read = self.embed(sequence, crop=crop)
        tracks = {name: F.softplus(self.heads[name](read)) for name in names}
        return {**tracks, EMBEDDINGS: read} if embeddings else tracks

    def embed(self, sequence: Tensor, *, crop: int | None = None) -> Tensor:
        """Compute what the heads read, batch × bins × ``config.embedding_size``."""
        crop = self.config.crop if crop is None else crop
        hidden = as_one_hot(sequence, self.stem.conv.weight)
        n_bins = self.config.n_bins(hidden.shape[1], crop)
        hidden = self._through(self.stem, hidden.transpose(1, 2), again=not self.training)
        for layer in self.tower:
            hidden = self._through(layer, hidden, again=not self.training)
        hidden = hidden.transpose(1, 2)
        features = self.position_features(hidden.shape[1]).to(hidden)
        for block in self.blocks:
            hidden = self._through(block, hidden, features)
        hidden = hidden[:, crop : crop + n_bins].transpose(1, 2)
        return gelu(self.final_dropout(self.final(hidden))).transpose(1, 2)

    def position_features(self, length: int) -> Tensor:
        """Positional features of ``length`` bins (see :func:`position_features`)."""
        n = self.config.n_position_features
        return position_features(length, n, gamma_over_features=self.gamma_over_features)

    def check_heads(self, heads: Iterable[str] | None) -> list[str]:
        """Names of the heads that are asked for, or ``KeyError``."""
        names = list(self.heads if heads is None else [heads] if isinstance(heads, str) else heads)
        unknown = [name for name in names if name not in self.heads]
        if unknown:
            raise KeyError(f"no head {unknown[0]!r}: this model has {', '.join(self.heads)}.")
        return names

    def _through(self, part: nn.Module, *inputs: Tensor, again: bool = True) -> Tensor:
        if again and self.recompute and torch.is_grad_enabled():
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)


class Stem(nn.Module):
    """Convolution over 15 bases, pointwise mixing, pooling; batch × 4 × length."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, width, 15, padding=7)
        self.mix = ConvBlock(width, width, 1)
        self.pool = AttentionPool(width)

    def forward(self, sequence: Tensor) -> Tensor:
        """Map bases to channels at half the positions."""
        hidden = self.conv(sequence)
        return self.pool(hidden + self.mix(hidden))


class TowerLayer(nn.Module):
    """Convolution over 5 positions, pointwise mixing, pooling; batch × channels × positions."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = ConvBlock(width_in, width, 5)
        self.mix = ConvBlock(width, width, 1)
        self.pool = AttentionPool(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Widen the channels at half the positions."""
        hidden = self.conv(hidden)
        return self.pool(hidden + self.mix(hidden))


class ConvBlock(nn.Module):
    """Norm over the batch, activation, convolution."""

    def __init__(self, width_in: int, width: int, kernel_size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width_in)
        self.conv = nn.Conv1d(width_in, width, kernel_size, padding=kernel_size // 2)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map channels; the ends are padded by zeros after the activation."""
        return self.conv(gelu(self.norm(hidden)))


class AttentionPool(nn.Module):
    """Each pair of positions to its mean, weighted by a softmax for each channel.

    Of two positions the softmax is a sigmoid of the difference, so the logits are made of that.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.logits = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        """Halve the positions."""
        first, second = hidden[..., 0::2], hidden[..., 1::2]
        difference = first - second
        return second + torch.sigmoid(self.logits(difference)) * difference


class Block(nn.Module):
    """Attention and a two-layer perceptron, each added to the input that it normalises."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        width = config.channels
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(config)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Map batch × bins × channels; ``features`` are those of the positions."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), features))
        wide = F.relu(self.dropout(self.up(self.norm(hidden))))
        return hidden + self.dropout(self.down(wide))


class Attention(nn.Module):
    """Multi-head attention whose scores see content and distance."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        width, n_heads, size = config.channels, config.n_heads, config.key_size
        self.n_heads = n_heads
        self.query = nn.Linear(width, n_heads * size, bias=False)
        self.key = nn.Linear(width, n_heads * size, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width)
        self.position_key = nn.Linear(config.n_position_features, n_heads * size, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(1, n_heads, 1, size))
        self.position_bias = nn.Parameter(torch.zeros(1, n_heads, 1, size))
        self.dropout = nn.Dropout(config.attention_dropout)
        self.position_dropout = nn.Dropout(config.position_dropout)

    def forward(self, hidden: Tensor, features: Tensor) -> Tensor:
        """Let every bin look at every bin."""
        query, key, value = (
            linear(hidden).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        query = query * query.shape[-1] ** -0.5
        position_key = self.position_key(self.position_dropout(features))
        position_key = position_key.unflatten(-1, (self.n_heads, -1)).permute(1, 2, 0)
        scores = (query + self.content_bias) @ key.transpose(-1, -2)
        scores = scores + by_key((query + self.position_bias) @ position_key)
        mixed = self.dropout(torch.softmax(scores, dim=-1)) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))


def by_key(by_distance: Tensor) -> Tensor:
    """Turn scores by distance, key minus query, into scores by key.

    Parameters
    ----------
    by_distance
        ... × n × 2n - 1; column ``c`` is distance ``c - (n - 1)``.

    Returns
    -------
    ... × n × n, a view of a copy with one more column: row ``i``, key ``j`` is column
    ``j - i + n - 1``, and one step down a row is one step back in columns.
    """
    n = by_distance.shape[-2]
    # A column more makes rows of 2n, read in steps of 2n - 1 from column n - 1 of row 0.
    flat = F.pad(by_distance, (0, 1)).flatten(-2)[..., n - 1 : n - 1 + n * (2 * n - 1)]
    return flat.unflatten(-1, (n, 2 * n - 1))[..., :n]


def position_features(length: int, n_features: int, *, gamma_over_features: bool = False) -> Tensor:
    """Describe the distances between ``length`` bins, from ``1 - length`` to ``length - 1``.

    A sixth of the features each are exponential decays, boxes around 0 and densities of gamma
    distributions, of the absolute distance; the other half are the same times the distance's sign.
    The time scales grow with ``length``.

    Parameters
    ----------
    length
        Bins of the sequence.
    n_features
        A multiple of 6.
    gamma_over_features
        Scale the gamma densities to a maximum of 1 over the features of a distance, as a widespread
        port does, not over the distances of a feature.

    Returns
    -------
    float32, ``2 × length - 1`` × ``n_features``.
    """
    n = n_features // 6
    signed = torch.arange(1 - length, length, dtype=torch.float64)[:, None]
    distance = signed.abs()
    half_life = 2 ** torch.linspace(3, math.log2(length), n, dtype=torch.float64)
    exponential = torch.exp2(-distance / half_life)
    box = (2.0 ** torch.arange(1, n + 1, dtype=torch.float64) - 1 > distance).double()
    density = _gamma_densities(distance, length, n) + 1e-8
    gamma = density / density.amax(dim=1 if gamma_over_features else 0, keepdim=True)
    one_sided = torch.cat([exponential, box, gamma], dim=1)
    return torch.cat([one_sided, signed.sign() * one_sided], dim=1).float()


def _gamma_densities(distance: Tensor, length: int, n: int) -> Tensor:
    """Gamma densities of means up to ``length``, distances × n, float64.

    The logarithm of a density is a small difference of large numbers. The published weights saw it
    in float32, up to 0.002 off; it is rounded at the same steps here, and nowhere else, so that
    every machine gives those numbers.
    """
    mean = torch.linspace(length / n, length, n, dtype=torch.float64)
    deviation = length / (2 * n)
    shape, rate = (mean / deviation) ** 2, mean / deviation**2
    constant = torch.lgamma(shape).float() - shape.float() * rate.log().float()
    growth = (shape - 1).float() * distance.log().float()
    return torch.exp((growth - rate.float() * distance.float() - constant).double())


def gelu(hidden: Tensor) -> Tensor:
    """The GELU that Enformer was trained with, by a sigmoid."""
    return hidden * torch.sigmoid(GELU_SLOPE * hidden)


def as_one_hot(sequence: Tensor, like: Tensor) -> Tensor:
    """Batch × length × 4 of ``like``'s type and device, from codes or from numbers.

    Raises
    ------
    ValueError
        As :func:`check_sequence`, or if a code is not 0 to 4.
    """
    check_sequence(sequence)
    if sequence.is_floating_point():
        return sequence.to(like)
    if sequence.numel() and (int(sequence.amin()) < 0 or int(sequence.amax()) > N):
        raise ValueError(
            f"codes go from {int(sequence.amin())} to {int(sequence.amax())}, expected A 0, C 1, "
            f"G 2, T 3 and {N} for what is not known."
        )
    table = torch.eye(N + 1, N, dtype=like.dtype, device=like.device)  # the last row is zero
    return F.embedding(sequence.to(like.device, torch.int64), table)


def check_sequence(sequence: Tensor) -> None:
    """Refuse what is neither codes, batch × length, nor numbers, batch × length × 4."""
    codes = not sequence.is_floating_point()
    if codes and sequence.ndim == 2 and sequence.dtype != torch.bool:
        return
    if not codes and sequence.ndim == 3 and sequence.shape[2] == 4:
        return
    raise ValueError(
        f"sequence is {sequence.dtype} of shape {tuple(sequence.shape)}, expected codes (uint8), "
        "batch × length, or numbers (float32; one-hot bases are such), batch × length × 4."
    )


@torch.no_grad()
def _initialise(root: Enformer) -> None:
    """Draw weights by the number of inputs; maps out of attention are zero, pooling logits 2x."""
    if next(root.parameters()).is_meta:
        return  # shapes only, to be filled from a file
    for module in root.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            _draw(module.weight, 1 / math.prod(module.weight.shape[1:]))
            if module.bias is not None:
                module.bias.zero_()
    for module in root.modules():  # what differs, after its parts
        if isinstance(module, Attention):
            for linear in (module.query, module.key, module.value, module.position_key):
                _draw(linear.weight, 2 / linear.in_features)
            for bias in (module.content_bias, module.position_bias):
                _draw(bias, 2 / module.n_heads)
            module.output.weight.zero_()
        if isinstance(module, AttentionPool):
            module.logits.weight.zero_()
            module.logits.weight[..., 0].fill_diagonal_(2.0)


def _draw(weight: Tensor, variance: float) -> None:
    # 0.8796 is the standard deviation of a standard normal distribution cut at ±2.
    deviation = math.sqrt(variance) / 0.87962566103423978
    nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)
