"""Two processes over gloo: every row once, and the losses of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from pytorch_lightning.strategies import FSDPStrategy

import glm

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN_SCRIPT = Path(__file__).with_name("under_torchrun.py")
N_ROWS, N_HELD_OUT, EPOCHS = 37, 11, 2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, int, str]]:
    """Run the script in a group of processes that is ended with it: folder, code and stderr."""

    def call(case: str, n_processes: int) -> tuple[Path, int, str]:
        folder = tmp_path_factory.mktemp(case) / "run"
        source = str(Path(glm.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), case, str(n_processes), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": source},
        )
        try:
            _, errors = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            pytest.fail("the processes hung")
        return folder, process.returncode, errors

    return call


def noted(folder: Path, rank: int) -> dict:
    return json.loads(Path(f"{folder}-{rank}.json").read_text())


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(f"{folder}-history.csv")


@pytest.fixture(scope="module")
def alone(run) -> Path:
    folder, code, errors = run("plain", 1)
    assert code == 0, errors
    return folder


@pytest.fixture(scope="module")
def together(run) -> Path:
    folder, code, errors = run("plain", 2)
    assert code == 0, errors
    return folder


def test_each_row_once_an_epoch(together: Path):
    """37 rows in an odd number of batches: what fills up weighs nothing."""
    notes = [noted(together, rank) for rank in range(2)]
    assert len(notes[0]["rows"]) == len(notes[1]["rows"])
    for epoch in range(EPOCHS):
        rows = [[r for e, some in note["rows"] if e == epoch for r in some] for note in notes]
        assert all(rows)
        assert sorted(rows[0] + rows[1]) == list(range(N_ROWS))
    measured = [row for note in notes for some in note["held_out"] for row in some]
    assert sorted(measured) == sorted(list(range(N_HELD_OUT)) * EPOCHS)
    assert any(not some for note in notes for _, some in note["rows"])


def test_losses_are_those_of_one_process(alone: Path, together: Path):
    """A step has the same batches, accumulated or shared out; dropout included."""
    one, two = history(alone), history(together)
    assert len(one) > 5
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.load(f"{f}-weights.pt", weights_only=True) for f in (alone, together))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)


def test_one_is_told_to_stop_and_all_do(run):
    """Both save at the same step, neither waits for the other."""
    folder, code, errors = run("stop", 2)
    assert code != 0
    assert "Another process of this run was told to stop" in errors
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 3


def test_one_has_a_loss_that_is_not_finite_and_all_stop(run):
    folder, code, errors = run("nan", 2)
    assert code != 0
    assert "The loss is nan in step 3, epoch 1, for the batch of sentences" in errors
    assert "in this process or another" in errors
    assert torch.load(folder / "last.ckpt", weights_only=True)["global_step"] == 2


# ---- started by torchrun ------------------------------------------------------------------------


def run_script(folder: Path, *options: str, n_processes: int) -> tuple[int, str]:
    """Exit code and stderr of the script, in processes that torchrun starts or by itself."""
    starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    process = subprocess.Popen(
        [
            sys.executable, *(starter if n_processes > 1 else []), str(TORCHRUN_SCRIPT),
            str(folder), *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(glm.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        _, errors = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the processes hung")
    return process.returncode, errors


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(tmp_path: Path):
    """The losses and weights of one process that accumulates the same batches."""
    for name, n in (("together", 2), ("alone", 1)):
        code, errors = run_script(tmp_path / name, str(n), n_processes=n)
        assert code == 0, errors
    ours, theirs = (
        torch.load(tmp_path / f"{name}-weights.pt", weights_only=True)
        for name in ("together", "alone")
    )
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-5)
    two, one = history(tmp_path / "together"), history(tmp_path / "alone")
    assert len(one) > 2
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_torchrun_without_devices_is_refused(tmp_path: Path):
    """Else each process would train by itself, and write into the folder of the other."""
    code, errors = run_script(tmp_path / "run", n_processes=2)
    assert code != 0
    assert "torchrun started 2 processes, and each would train by itself" in errors
    assert not (tmp_path / "run").exists()


def test_torchrun_without_devices_is_told(train, new_model, tmp_path, monkeypatch):
    """The same, without starting processes."""
    told = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    told |= {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"torchrun started 2 processes.*pass devices="):
        train(new_model(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["fsdp", "fsdp_cpu_offload", FSDPStrategy()], ids=str)
def test_shards_are_for_gpus(train, new_model, tmp_path, strategy):
    """torch refuses to shard on a CPU ("FSDP needs a non-CPU accelerator device")."""
    with pytest.raises(ValueError, match=r"'fsdp' cuts .* CUDA GPUs.*strategy='ddp'"):
        train(new_model(), tmp_path / "run", strategy=strategy, devices=2)
    assert not (tmp_path / "run").exists()
