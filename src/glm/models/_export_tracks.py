"""Write a model that predicts tracks in the layout that its PyTorch checkpoint is published in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ._saving import plain, write_json, written_together
from .published_tracks import config_of, table_name
from .track_table import write_table

if TYPE_CHECKING:
    from torch import Tensor

    from .track_model import TrackModel


def export_tracks(model: TrackModel, folder: Path) -> Path:
    """Write ``config.json``, ``pytorch_model.bin`` and the tables of tracks; see ``export``."""
    import torch

    from .enformer_weights import to_published_enformer
    from .weights import refuse_not_finite

    spec = model.spec
    state = to_published_enformer(model.network)
    refuse_not_finite(state)
    config = {
        **config_of(spec.shape, spec.window_bp),
        "glm": {
            "name": spec.name,
            "window_bp": spec.window_bp,
            "crop": spec.shape.crop,
            "licence": spec.licence,
            "source": spec.source,
            "note": spec.note,
            "card": plain(model.card),
        },
    }
    weights, tables = "pytorch_model.bin", {table_name(head): t for head, t in model.tables.items()}
    folder.mkdir(parents=True, exist_ok=True)
    with written_together(folder, [weights, "config.json", *tables]) as beside:
        torch.save(_with_second_copy(state), beside[weights])
        write_json(beside["config.json"], config, indent=1)
        for name, table in tables.items():
            write_table(table, beside[name])
    return folder


def _with_second_copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, and the trunk once more as their module names it; both are one in the file."""
    from .enformer_weights import TRUNK_AGAIN

    again = {
        copy + name.removeprefix(first): tensor
        for copy, first in TRUNK_AGAIN.items()
        for name, tensor in state.items()
        if name.startswith(first)
    }
    return {name: tensor.detach().cpu() for name, tensor in {**state, **again}.items()}
