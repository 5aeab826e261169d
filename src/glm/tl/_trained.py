"""What pretraining and fine-tuning share: the recipe, the folder, the finished bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._messages import first_names, share, warn
from ..models.bundle import Model, load

if TYPE_CHECKING:
    from anndata import AnnData

    from ..cells import Counts
    from ..train import Recipe

RUN = "run"
"""The folder in ``out`` with checkpoints and log."""

# A warm-up that takes more of a run than this never lets it train.
_MOST_WARMUP = 0.1


def choose_recipe(
    system: str,
    what: str,
    given: Recipe | None,
    *,
    n_sentences: int,
    n_tokens: int,
    epochs: int | None,
    learning_rate: float | None,
    tokens_per_batch: int | None,
    seed: int | None,
) -> Recipe:
    """The recipe that is given, or the authors' own, with what was said in its place.

    The authors' warm-up is as long as suits their data; where it would take more than a tenth of
    this run it is a tenth.
    """
    from ..train import recipe

    chosen = given or recipe(system, what)
    said: dict[str, Any] = {"max_epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    said = {name: value for name, value in said.items() if value is not None}
    if epochs is not None:
        said["max_steps"] = None
    if tokens_per_batch is not None:
        said |= {"tokens_per_batch": tokens_per_batch, "rows_per_batch": None}
    chosen = dataclasses.replace(chosen, **said)
    if given is None and chosen.warmup >= 1:
        n_steps = _steps(chosen, n_sentences, n_tokens)
        if chosen.warmup > _MOST_WARMUP * n_steps:
            chosen = dataclasses.replace(chosen, warmup=_MOST_WARMUP)
    return chosen


def log_interval(recipe: Recipe, n_sentences: int, n_tokens: int) -> int:
    """Steps from one line of the log to the next: some fifty lines at least, where there are."""
    return int(np.clip(_steps(recipe, n_sentences, n_tokens) // 50, 1, 10))


def _steps(recipe: Recipe, n_sentences: int, n_tokens: int) -> float:
    """About how many steps a run will take."""
    batches = max(
        n_sentences / (recipe.rows_per_batch or n_sentences),
        n_tokens / (recipe.tokens_per_batch or n_tokens),
    )
    by_epochs = batches * (recipe.max_epochs or np.inf) / recipe.batches_per_step
    return min(by_epochs, recipe.max_steps or np.inf)


def check_out(out: str | Path) -> Path:
    """The folder of a new bundle: not there, empty, or left by an earlier call.

    Raises
    ------
    ValueError
        If it is a file, or holds something that would be overwritten, such as another bundle.
    """
    folder = Path(out).expanduser()
    if folder.is_file():
        raise ValueError(f"out={str(out)!r} is a file. Name a folder for the trained model.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RUN).is_dir():
        there = sorted(path.name for path in folder.iterdir())
        raise ValueError(
            f"out={str(out)!r} holds something else than a training run ({first_names(there)}). "
            "Name a folder that is not there yet, or one that the same call left."
        )
    return folder


def long_enough(counts: Counts, least: int) -> np.ndarray:
    """bool, one a cell: whether it has ``least`` genes that the model knows, and any at all."""
    return counts.measures.n_genes_known >= max(least, 1)


def tell_too_short(adata: AnnData, usable: np.ndarray, least: int, model: str) -> None:
    """Warn once of the cells that are not trained on."""
    if usable.all():
        return
    names = first_names(adata.obs_names[~usable])
    fewer = "no count on a gene" if least <= 1 else f"fewer than {least} genes"
    warn(
        f"{share(int((~usable).sum()), usable.size)} cells have {fewer} of {model} and are left "
        f"out ({names})."
    )


@contextmanager
def advising(folder: Path) -> Iterator[None]:
    """Say what to do where memory runs out."""
    from ..engine.run import is_out_of_memory

    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RuntimeError(
            f"Memory ran out while training ({error}). Pass a smaller tokens_per_batch, "
            "checkpoint_activations=True or lora=, and another out, since that is another run; the "
            f"state of this one is kept in {folder}."
        ) from error


def save_trained(
    trained: Model, base: Model, folder: Path, card: dict[str, Any], **spec: Any
) -> Model:
    """Write the bundle, in the first of several processes, and load it.

    Its name is that of the folder.
    """
    name = folder.resolve().name
    kept = dataclasses.replace(
        trained.spec,
        name=name,
        tier="local",
        folder=None,
        dictionary="",
        weights="",
        note=f"Trained from {base.spec.name} ({base.spec.tier}).",
        **spec,
    )
    told = {"from": base.spec.name, "from_weights_sha256": base.weights_sha256, **card}
    if is_first():
        dataclasses.replace(trained, spec=kept).save(folder, card=told)
    wait()
    return load(folder)


def is_first() -> bool:
    """Whether this is the only process of a run, or the first."""
    import torch

    distributed = torch.distributed
    together = distributed.is_available() and distributed.is_initialized()
    return not together or distributed.get_rank() == 0


def wait() -> None:
    """Wait for the other processes of a run, where there are such."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
