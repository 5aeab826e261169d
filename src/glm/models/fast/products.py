"""Products of two matrices on the CPU: by torch, or by oneDNN where that is there and pays."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor


def torch_product(
    rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None
) -> Tensor:
    """rows × in and out × in to rows × out, plus a bias, and then ``"relu"`` or ``"gelu"``."""
    mapped = F.linear(rows, weight, bias)
    if activation == "gelu":
        return F.gelu(mapped)
    return mapped.relu_() if activation == "relu" else mapped


def onednn_product(
    rows: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None = None
) -> Tensor:
    """The same by oneDNN, which compiles a kernel for each shape that it meets."""
    # The last argument asks for the exact gelu.
    algorithm = "none" if activation == "gelu" else ""
    return torch.ops.mkldnn._linear_pointwise(
        rows, weight, bias, activation or "none", [], algorithm
    )


@cache
def onednn_works(dtype: torch.dtype) -> bool:
    """Try the operator, which is not public, on known numbers before it is relied on."""
    if not torch.backends.mkldnn.is_available():
        return False
    weight = torch.linspace(-1, 1, 8 * 16).view(8, 16).sin().to(dtype)
    bias = torch.linspace(-1, 1, 8).to(dtype)
    rows = torch.linspace(-3, 3, 32 * 16).view(32, 16).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        return all(
            torch.allclose(
                onednn_product(rows, weight, bias, activation),
                torch_product(rows, weight, bias, activation),
                atol=tolerance,
                rtol=tolerance,
            )
            for activation in (None, "relu", "gelu")
        )
    except (AttributeError, RuntimeError, TypeError):
        return False  # another version of torch without it, or with other arguments


@cache
def float32_pays() -> bool:
    """Whether oneDNN is faster in float32: on AMD's processors with AVX-512."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    info = Path("/proc/cpuinfo")  # Linux; Windows names the vendor in platform.processor()
    maker = info.read_text().partition("\n\n")[0] if info.is_file() else platform.processor()
    return "AuthenticAMD" in maker
