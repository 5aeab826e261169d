"""A run leaves the caller's process as it found it, and stops between two steps when told to."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from .._settings import settings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # set with deterministic=
_LOGGERS = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric")


def shows_progress() -> bool:
    """Whether ``glm.settings.progress`` asks for a bar, or somebody would see it move."""
    return sys.stderr.isatty() if settings.progress is None else settings.progress


class Interruptions(pl.Callback):
    """Take Ctrl-C and SIGTERM as the wish to stop after the step that is under way.

    A second Ctrl-C is what it always is. Only the main thread can take signals: elsewhere they go
    where they went. :func:`left_as_it_was` gives them back.
    """

    def __init__(self) -> None:
        self.told: int | None = None

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        # Here, after Lightning took them: its own answer comes in the middle of a step.
        if not _is_main_thread():
            return

        def handle(number: int, frame: FrameType | None) -> None:
            if self.told == number == signal.SIGINT:
                signal.default_int_handler(number, frame)
            self.told, module.wish = number, True

        for number in _SIGNALS:
            signal.signal(number, handle)

    def pass_on(self) -> None:
        """Do what the signal would have done, now that the state is saved."""
        if self.told is None:
            return
        signal.raise_signal(self.told)
        # A caller who lets signals pass still learns that training is not through.
        raise KeyboardInterrupt if self.told == signal.SIGINT else SystemExit(128 + self.told)


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """Put back what Lightning and a run change: random states, threads, torch's flags, logging."""
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is meant
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    flags, had_cuda = _flags(), torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if had_cuda else ()
    try:
        with torch.random.fork_rng(devices=devices), warnings.catch_warnings():
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.WARNING)
            # What it advises does not hold here: batches are made in no time, resuming is exact.
            warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric)(\.|$)")
            warnings.filterwarnings("ignore", message=".*LeafSpec")
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        _put_back(flags)
        if torch.cuda.is_initialized() and not had_cuda:
            torch.cuda.manual_seed_all(torch.initial_seed())  # as it would have begun
        if _is_main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _flags() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "matmul": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "cublas": os.environ.get(_CUBLAS),
    }


def _put_back(before: dict[str, Any]) -> None:
    now = _flags()
    if now["threads"] != before["threads"]:
        torch.set_num_threads(before["threads"])
    if (now["deterministic"], now["warn_only"]) != (before["deterministic"], before["warn_only"]):
        torch.use_deterministic_algorithms(before["deterministic"], warn_only=before["warn_only"])
    if now["matmul"] != before["matmul"]:
        torch.set_float32_matmul_precision(before["matmul"])
    torch.backends.cudnn.benchmark = before["benchmark"]
    torch.set_grad_enabled(before["gradients"])
    if before["cublas"] is None:
        os.environ.pop(_CUBLAS, None)
    else:
        os.environ[_CUBLAS] = before["cublas"]
