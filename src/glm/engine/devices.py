"""Several devices: processes that each compute some shards of one folder, launched by Lightning.

Processes tell each other nothing but when they are through: shards meet in the folder, which all of
them must see, and are gathered in order, as after a run by one process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_STARTED = ("ddp_spawn", "ddp_fork", "ddp_notebook")
"""Strategies that start processes for the work, rather than the script again."""

Task = Callable[[int, int, torch.device], None]
"""Does the part of the work that falls to process ``rank`` of ``world``, on a device."""


class Team:
    """The processes of a run: here, this one alone.

    Attributes
    ----------
    rank
        Number of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = 0

    def run(self, task: Task) -> None:
        """Let every process do its part; returns when all are through."""
        task(0, 1, self.device)

    def wait(self) -> None:
        """Wait for the other processes."""

    def tell(self, value: str) -> str:
        """The value that the first process gives, in all of them."""
        return value

    @contextmanager
    def folder(self, path: Path | None) -> Iterator[Path]:
        """The folder that all processes share: ``path``, or one that is gone afterwards."""
        if path is not None:
            yield path
            return
        made = tempfile.mkdtemp(prefix="glm-") if self.rank == 0 else ""
        try:
            yield Path(self.tell(made))
            self.wait()
        finally:
            if made:
                shutil.rmtree(made, ignore_errors=True)


class _Together(Team):
    """Processes that each run the user's script from its beginning, and meet here."""

    def __init__(self, fabric: Any) -> None:
        fabric.launch()
        super().__init__(fabric.device)
        self._fabric = fabric
        self.rank = fabric.global_rank

    def run(self, task: Task) -> None:
        task(self.rank, self._fabric.world_size, self.device)
        self.wait()

    def wait(self) -> None:
        self._fabric.barrier()

    def tell(self, value: str) -> str:
        return str(self._fabric.broadcast(value))


class _Helpers(Team):
    """Processes that are started for the work alone, and are gone when it is done."""

    def __init__(self, fabric: Any, device: torch.device) -> None:
        super().__init__(device)
        self._fabric = fabric

    def run(self, task: Task) -> None:
        try:
            self._fabric.launch(_in_helper, task)
        except (AttributeError, TypeError) as error:
            error.add_note(
                "Strategies that start processes send the data to each. Where they cannot be sent "
                "(an object backed by a file, say), run a script with strategy='ddp'."
            )
            raise


def _in_helper(fabric: Any, task: Task) -> None:
    task(fabric.global_rank, fabric.world_size, fabric.device)
    fabric.barrier()


def assemble(devices: int | list[int] | str | None, strategy: str, device: torch.device) -> Team:
    """Launch the processes of a run; with ``devices=None`` there is none but this.

    Raises
    ------
    ValueError
        If Lightning knows no such devices or strategy.
    RuntimeError
        If the strategy cannot launch processes from here.
    ImportError
        If several devices are asked for and Lightning is not installed.
    """
    if devices is None:
        return Team(device)
    _check_launch(strategy)
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise ImportError(
            "devices= needs Lightning, which is not installed: pip install pytorch-lightning. "
            "Without devices= one device computes the same."
        ) from error
    try:
        fabric = Fabric(accelerator=device.type, devices=devices, strategy=strategy)
    except RuntimeError as error:
        raise _cannot_launch(strategy) from error
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise ValueError(
            f"devices={devices!r} with strategy={strategy!r} on {device.type!r} is not possible: "
            f"{error}"
        ) from error
    if fabric.strategy.launcher is None:
        return Team(fabric.device)
    return _Helpers(fabric, device) if strategy in _STARTED else _Together(fabric)


def _check_launch(strategy: str) -> None:
    """Strategies that run the script again need one: neither a notebook nor ``python -c`` is."""
    if strategy not in ("auto", "ddp", *_STARTED):
        raise ValueError(
            f"strategy is {strategy!r}; expected 'auto', 'ddp', {', '.join(map(repr, _STARTED))}. "
            "Each process computes whole shards with the whole model."
        )
    main = sys.modules["__main__"]
    is_script = getattr(main, "__spec__", None) is not None or hasattr(main, "__file__")
    interactive = hasattr(sys, "ps1") or not is_script
    if interactive and strategy not in _STARTED:
        raise _cannot_launch(strategy)


def _cannot_launch(strategy: str) -> RuntimeError:
    return RuntimeError(
        f"strategy={strategy!r} starts the script again in each process, and there is none: this "
        "is a notebook or an interactive session. Put the call into a script; or pass "
        "strategy='ddp_notebook', in a session that has not used CUDA yet; or leave devices out "
        "and use one device."
    )
