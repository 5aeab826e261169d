"""The plan of a run: device, precision and how many tokens are run at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ..models.config import BertConfig

Precision = Literal["float32", "bfloat16", "mixed"]
"""``"mixed"`` is of models that predict tracks: bfloat16 in their transformer blocks alone."""

# Measured on CPUs: budgets of 4 to 8 thousand tokens beat larger ones, which leave the cache.
_CPU_BUDGET = 6_144
# A GPU is busy long before this; more only costs memory.
_MOST_GPU_TOKENS = 131_072
_LEAST_GPU_TOKENS = 8_192
# Of the memory that is free, the share that a batch is planned for.
_SHARE_OF_FREE = 0.5


@dataclass(frozen=True)
class Plan:
    """Where and how a model runs.

    Attributes
    ----------
    device
        Torch device.
    precision
        ``"float32"`` or ``"bfloat16"``; ``"mixed"`` for models that predict tracks.
    budget
        Tokens a batch.
    """

    device: torch.device
    precision: Precision
    budget: int

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of the precision."""
        return torch.float32 if self.precision == "float32" else torch.bfloat16


def make_plan(
    device: str | None = None,
    *,
    budget: int | None = None,
    precision: Precision | None = None,
    config: BertConfig | None = None,
) -> Plan:
    """Choose what was not chosen.

    CUDA where there is one, else the CPU; bfloat16 on a GPU that has it, else float32. The budget:
    what is fastest on a CPU; on a GPU what half of its free memory holds for a model of the shape
    ``config``, within bounds.

    Raises
    ------
    ValueError
        If a device is asked for by name that is not there, or a precision that is not known.
    TypeError
        If the device is of a kind that is not supported.
    """
    chosen = _device(device)
    if budget is not None and budget < 1:
        raise ValueError(f"The token budget is {budget}; expected at least 1.")
    if precision not in (None, "float32", "bfloat16"):
        raise ValueError(f"precision is {precision!r}; expected 'float32', 'bfloat16' or None.")
    precise = precision or _precision(chosen)
    return Plan(chosen, precise, budget or _budget(chosen, precise, config))


def token_bytes(config: BertConfig, precision: Precision) -> int:
    """Most memory that one token takes on the device while it passes through a layer."""
    # The hidden state, its queries, keys and values, attention's result, the middle and the sum
    # that follows, and twice the width between the feed-forward matrices. In bfloat16 the hidden
    # state, the middle and the sum stay float32.
    width, between = config.hidden_size, config.intermediate_size
    if precision == "float32":
        return 4 * (8 * width + 2 * between) + 8
    return 4 * 3 * width + 2 * (5 * width + 2 * between) + 8


def _precision(device: torch.device) -> Precision:
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"


def _budget(device: torch.device, precision: Precision, config: BertConfig | None) -> int:
    if device.type == "cpu":
        return _CPU_BUDGET
    if config is None:
        return _MOST_GPU_TOKENS // 2
    free, _ = torch.cuda.mem_get_info(device)
    fits = int(_SHARE_OF_FREE * free) // token_bytes(config, precision)
    rounded = fits // 1024 * 1024
    return max(min(rounded, _MOST_GPU_TOKENS), _LEAST_GPU_TOKENS)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}: expected 'cpu', 'cuda', 'cuda:1'.") from (
            error
        )
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={name!r} was asked for but this torch ({torch.__version__}) finds no CUDA. "
            "Leave device out to run on the CPU, or install a CUDA build of torch."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r} was asked for but there are {torch.cuda.device_count()} of CUDA; "
            "the first is 'cuda:0'."
        )
    if device.type == "mps":
        raise TypeError(
            "device='mps' is not supported: the kernels are tested on CPUs and CUDA only. Leave "
            "device out, or pass 'cpu', which gives the same numbers."
        )
    if device.type not in {"cpu", "cuda"}:
        raise TypeError(f"device={name!r} is not supported; expected 'cpu' or 'cuda'.")
    return device
