"""Convolutions of width 5 with 6 products for 2 outputs instead of 10, by Winograd's algorithm.

Two outputs are made of six inputs. Taken as polynomials, inputs and weights are evaluated at six
points, multiplied there, and the outputs read off; over channels each of the 6 products is a matrix
product. Rounding errors in float32 are about twice those of the plain sum.

Measured and left out: tiles of 4 outputs take 8 products for 20, a tenth off the whole model's
time, for four times the error of the plain sum, half as much memory again for the weights, and
tiles that move when a window moves by one bin.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 2
"""Outputs of a tile."""

WIDTH = 5
"""Of the convolution."""

# The points are 0, ±A, ±B and infinity. Of those tried, these have the smallest error; their
# squares are short sums of powers of two, so what the inputs are multiplied by is exact.
_A, _B = 0.625, 1.5

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""rows × in, out × in, bias (out) → rows × out."""


class WinogradConv:
    """A convolution over rows × channels, with its weights transformed.

    Parameters
    ----------
    weight
        out × in × 5.
    bias
        out.
    product
        Of two matrices.
    """

    def __init__(self, weight: Tensor, bias: Tensor, product: Product) -> None:
        at_points = torch.einsum("pk,oik->poi", _of_weights().to(weight), weight)
        self._weights, self._bias, self._product = at_points.contiguous(), bias, product

    def __call__(self, rows: Tensor) -> Tensor:
        """Convolve an even number of rows; 4 fewer come out."""
        inputs = _at_points(rows)
        # Each output has one of these two products, once.
        biases = [self._bias, None, None, None, None, self._bias]
        zero, a, minus_a, b, minus_b, infinity = (
            self._product(*x) for x in zip(inputs, self._weights, biases, strict=True)
        )
        out = rows.new_empty(len(zero), TILE, zero.shape[1])
        first, second = out[:, 0], out[:, 1]
        torch.add(zero, a + minus_a, out=first).add_(b + minus_b)
        torch.add(infinity, a.sub_(minus_a), alpha=_A, out=second).add_(b.sub_(minus_b), alpha=_B)
        return out.flatten(0, 1)


def _at_points(rows: Tensor) -> Tensor:
    """Inputs of each tile, evaluated: points × tiles × channels.

    What belongs to a point is the product of (x - p) over the other finite points p, or over all
    for infinity, with the k-th input of the tile in the place of the k-th power of x.
    """
    even, odd = rows[0::2], rows[1::2]
    n = len(even) - WIDTH // 2
    found = rows.new_empty(6, n, rows.shape[1])
    without_a, odd_without_a = _less(even, _B), _less(odd, _B)  # (x² - B²), and times x
    without_b, odd_without_b = _less(even, _A), _less(odd, _A)
    torch.sub(without_a[1:], without_a[:-1], alpha=_A**2, out=found[0])
    torch.add(without_a[1:], odd_without_a[:-1], alpha=_A, out=found[1])
    torch.sub(without_a[1:], odd_without_a[:-1], alpha=_A, out=found[2])
    torch.add(without_b[1:], odd_without_b[:-1], alpha=_B, out=found[3])
    torch.sub(without_b[1:], odd_without_b[:-1], alpha=_B, out=found[4])
    torch.sub(odd_without_a[1:], odd_without_a[:-1], alpha=_A**2, out=found[5])
    return found


def _less(rows: Tensor, point: float) -> Tensor:
    return torch.sub(rows[1:], rows[:-1], alpha=point**2)


def _of_weights() -> Tensor:
    """Powers of the points, over what the inputs' polynomial is worth at its point; float64."""
    points = torch.tensor([0, _A, -_A, _B, -_B], dtype=torch.float64)
    powers = points[:, None] ** torch.arange(WIDTH)
    infinity = torch.zeros(1, WIDTH, dtype=torch.float64)
    infinity[0, -1] = 1
    between = points[:, None] - points + torch.eye(len(points))
    return torch.cat([powers / between.prod(dim=1, keepdim=True), infinity])
