"""Stem and tower on one sequence: positions × channels, in chunks that stay in the cache.

Norm and activation are one pass of ``silu``: the norm carries the 1.702 of x·σ(1.702x), and what
follows divides by it. A chunk goes through convolution, mixing and pooling before the next one
starts, so no array of a layer's full width is ever there but its result. The stem, whose result
would be the largest, has none: the first layer asks it for the rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...enformer import GELU_SLOPE, AttentionPool, ConvBlock, Enformer, Stem, TowerLayer
from .winograd import WIDTH, Product, WinogradConv

_HALO = WIDTH // 2

Read = Callable[[slice], Tensor]
"""Of rows that exist → rows × channels. An array's own indexing is one."""


class FastTower:
    """Stem and tower of an Enformer.

    Parameters
    ----------
    enformer
        In float32. Pointwise weights are used, those of width 5 copied in another form.
    product
        Of two matrices.
    chunk
        Positions of a convolution at a time.
    """

    def __init__(self, enformer: Enformer, product: Product, *, chunk: int) -> None:
        self._stem = FastStem(enformer.stem, product)
        self._layers = [
            FastLayer(cast(TowerLayer, layer), product, chunk=chunk) for layer in enformer.tower
        ]

    def __call__(self, bases: Tensor) -> Tensor:
        """Map length × 4 to bins × channels."""
        read, length = self._stem.reader(bases), len(bases) // 2
        hidden = bases
        for layer in self._layers:
            hidden = layer(read, length)
            read, length = hidden.__getitem__, len(hidden)
        return hidden


class FastLayer:
    """A layer of the tower."""

    def __init__(self, layer: TowerLayer, product: Product, *, chunk: int) -> None:
        self._norm, self._chunk = Norm(layer.conv.norm), chunk
        conv = layer.conv.conv
        self._bias = _bias(conv)
        self._conv = WinogradConv(conv.weight.detach() / GELU_SLOPE, self._bias, product)
        self._finish = Finish(layer.mix, layer.pool, product)

    def __call__(self, read: Read, length: int) -> Tensor:
        """Map an even number of rows to half as many."""
        out = self._bias.new_empty(length // 2, len(self._bias))
        for start in range(0, length, self._chunk):
            stop = min(start + self._chunk, length)
            out[start // 2 : stop // 2] = self._part(read, length, start, stop)
        return out

    def _part(self, read: Read, length: int, start: int, stop: int) -> Tensor:
        low, high = max(start - _HALO, 0), min(stop + _HALO, length)
        rows = self._norm(read(slice(low, high)))
        if high - low < stop - start + 2 * _HALO:  # zeros outside the sequence
            rows = F.pad(rows, (0, 0, low - start + _HALO, stop + _HALO - high))
        return self._finish(self._conv(rows))


class FastStem:
    """The stem, computed for the rows that are asked for."""

    def __init__(self, stem: Stem, product: Product) -> None:
        conv = stem.conv
        self._reach = conv.kernel_size[0] // 2
        self._weight = conv.weight.detach().transpose(1, 2).flatten(1).contiguous()
        self._bias, self._product = _bias(conv), product
        self._finish = Finish(stem.mix, stem.pool, product)

    def reader(self, bases: Tensor) -> Read:
        """Rows of the stem's output on these bases, length × 4."""
        padded = F.pad(bases, (0, 0, self._reach, self._reach))
        n = self._weight.shape[1]

        def read(rows: slice) -> Tensor:
            here = padded[2 * rows.start : 2 * rows.stop + 2 * self._reach]
            shape = (len(here) - 2 * self._reach, n)
            windows = here.as_strided(shape, (4, 1), here.storage_offset())
            return self._finish(self._product(windows.contiguous(), self._weight, self._bias))

        return read


class Norm:
    """A norm with fixed statistics and the activation, as one scaled ``silu``."""

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight.detach() / (variance + norm.eps).sqrt()
        self._scale = scale * GELU_SLOPE
        self._shift = (norm.bias.detach() - mean * scale) * GELU_SLOPE

    def __call__(self, rows: Tensor) -> Tensor:
        """Compute 1.702 times the activation of the norm."""
        return F.silu(torch.addcmul(self._shift, rows, self._scale), inplace=True)


class Finish:
    """Pointwise mixing, added to its input, and pooling."""

    def __init__(self, mix: ConvBlock, pool: AttentionPool, product: Product) -> None:
        self._norm, self._product = Norm(mix.norm), product
        self._mix = mix.conv.weight.detach()[..., 0]
        self._bias = _bias(mix.conv) * GELU_SLOPE
        self._logits = pool.logits.weight.detach()[..., 0]

    def __call__(self, rows: Tensor) -> Tensor:
        """Halve an even number of rows; they are changed."""
        mixed = self._product(self._norm(rows), self._mix, self._bias)
        rows.add_(mixed, alpha=1 / GELU_SLOPE)
        first, second = rows[0::2], rows[1::2]
        difference = first - second
        share = self._product(difference, self._logits, None).sigmoid_()
        return torch.addcmul(second, share, difference)


def _bias(conv: nn.Conv1d) -> Tensor:
    return cast(Tensor, conv.bias).detach()
