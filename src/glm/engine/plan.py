"""The plan of a run: device, precision and how many tokens are run at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Measured on CPUs: budgets of 4 to 8 thousand tokens beat larger ones, which leave the cache.
_CPU_BUDGET = 6_144
_GPU_BUDGET = 65_536


@dataclass(frozen=True)
class Plan:
    """Where and how a model runs.

    Attributes
    ----------
    device
        Torch device.
    precision
        ``"float32"``.
    budget
        Tokens a batch.
    """

    device: torch.device
    precision: str
    budget: int


def make_plan(device: str | None = None, *, budget: int | None = None) -> Plan:
    """Choose what was not chosen: CUDA where there is one, else the CPU; float32.

    Raises
    ------
    ValueError
        If a device is asked for by name that is not there.
    """
    chosen = _device(device)
    if budget is not None and budget < 1:
        raise ValueError(f"The token budget is {budget}; expected at least 1.")
    return Plan(
        device=chosen,
        precision="float32",
        budget=budget or (_CPU_BUDGET if chosen.type == "cpu" else _GPU_BUDGET),
    )


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
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"device={name!r} is not supported; expected 'cpu' or 'cuda'.")
    return device
