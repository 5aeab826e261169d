"""Models that predict tracks from sequence: their rows, and the loaded thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import _fetch
from .._cards import html_card, text_card
from .._fetch import fetch, sha256_of
from .._hashes import digest_once
from ._saving import plain, write_json, written_together
from .enformer_config import BIN_BP, EnformerConfig
from .places import BUNDLE_FORMAT, TRACK_SYSTEM, bundle_file, check_format, content_of, ways_out
from .published import is_published
from .published_tracks import describe_track_folder, table_name
from .track_table import read_table, read_targets, unnamed_tracks, write_table

if TYPE_CHECKING:
    import pandas as pd

    from .enformer import Enformer

GENOMES = {"human": ("hg18", "hg19", "hg38", "hs1"), "mouse": ("mm9", "mm10", "mm39")}
"""Assemblies of the species that a head of this name was trained on."""

TRAINED_ON = {"human": "hg38", "mouse": "mm10"}
"""The assembly itself."""


@dataclass(frozen=True)
class TrackSpec:
    """A row of the registry: a model that reads a window of DNA and predicts tracks in bins.

    Attributes
    ----------
    name
        The name used everywhere, for example ``"enformer"``.
    shape
        Shape of the network: heads and their numbers of tracks, widths, the crop.
    window_bp
        Bases of a window, as the model was trained.
    targets
        Head to the entry of its table in the download table; empty where tables are in ``folder``.
    weights
        Entry of the download table; of a folder in the published layout the file in it; ``""`` for
        a bundle.
    folder
        Folder of a bundle, or of a checkpoint in the published layout, else ``None``.
    tier
        ``"published"``, ``"demo"`` (bundled, small, for examples) or ``"local"`` (the user's own).
    licence
        Licence of the weights.
    source
        Where the authors published it.
    note
        What a user should know before relying on it.
    """

    name: str
    shape: EnformerConfig
    window_bp: int
    targets: Mapping[str, str] = field(default_factory=dict, hash=False)
    weights: str = ""
    folder: Path | None = None
    tier: Literal["published", "demo", "local"] = "published"
    licence: str = "Apache-2.0"
    source: str = ""
    note: str = ""
    system: str = TRACK_SYSTEM

    @property
    def is_bundle(self) -> bool:
        """Whether ``folder`` is a bundle, with the hashes of its files in ``config.json``."""
        return self.folder is not None and not self.weights

    @property
    def files(self) -> list[str]:
        """The published files that it needs, by their names in the download table."""
        return [*self.targets.values(), *([self.weights] if self.folder is None else [])]

    @property
    def output_bp(self) -> int:
        """Bases in the middle of a window for which tracks are predicted."""
        return BIN_BP * self.shape.n_bins(self.window_bp)

    @property
    def where(self) -> str:
        """Bundled, local, in memory, on this machine, or to fetch."""
        if self.folder is not None:
            return "bundled" if self.tier == "demo" else "local"
        if not self.weights:
            return "in memory"
        there = [_fetch.local_path(name) is not None for name in self.files]
        return "on this machine" if all(there) else "to fetch"

    def tracks(self, head: str) -> pd.DataFrame:
        """The table of a head's tracks; of a published model it is fetched and held to its hash.

        Raises
        ------
        OSError
            If its file is not here and cannot be fetched, or is not the published one.
        RuntimeError
            If it has not as many rows as the head has outputs.
        """
        table, n = self._table(head), self.shape.heads[head]
        if len(table) != n:
            raise RuntimeError(
                f"{self.name} predicts {n:,} {head} tracks, and its table names {len(table):,}: "
                "the two do not belong together."
            )
        return table

    def _table(self, head: str) -> pd.DataFrame:
        if self.folder is not None and self.is_bundle:
            return read_table(bundle_file(self.folder, table_name(head)))
        if head in self.targets:
            with ways_out(self):
                return read_targets(fetch(self.targets[head]))
        if self.folder is not None and (self.folder / table_name(head)).is_file():
            return read_table(self.folder / table_name(head))
        return unnamed_tracks(self.shape.heads[head])

    def _repr_html_(self) -> str:
        return html_card(f"Model {self.name}", self._card(), note=self.note)

    def _card(self) -> dict[str, object]:
        shape = self.shape
        return {
            "system": self.system,
            "tier": self.tier,
            "network": f"{shape.depth} blocks × {shape.channels:,}, {shape.n_heads} heads",
            "parameters": f"{shape.n_parameters:,}",
            "window": f"{self.window_bp:,} bp",
            "output": f"{self.output_bp:,} bp in bins of {BIN_BP}",
            "tracks": ", ".join(f"{head} {n:,}" for head, n in shape.heads.items()),
            "files": self.where,
            "licence": self.licence,
            "source": self.source,
        }


@dataclass(frozen=True, eq=False, repr=False)
class TrackModel:
    """A model that predicts tracks, ready to run.

    Attributes
    ----------
    spec
        Its row of the registry.
    network
        The network, float32, in evaluation mode.
    tables
        Head to the table of its tracks, in the order of the head's outputs; see
        :func:`glm.models.tracks`.
    weights_sha256
        Hash of the weights' file (``"unsaved"`` for weights that were never in one).
    card
        How it came about. Kept when it is saved.
    """

    spec: TrackSpec
    network: Enformer
    tables: Mapping[str, pd.DataFrame]
    weights_sha256: str = "unsaved"
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for head, n in self.network.config.heads.items():
            found = len(self.tables[head]) if head in self.tables else None
            if found != n:
                raise RuntimeError(
                    f"{self.spec.name} predicts {n:,} {head} tracks, and "
                    + ("has no table of them." if found is None else f"its table has {found:,}.")
                )

    @property
    def weights_fingerprint(self) -> str:
        """Hash of the weights as they are now in memory: they may have been changed since."""
        import hashlib

        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
        return digest.hexdigest()

    def save(
        self, folder: Path | str, *, card: Mapping[str, Any] | None = None, half: bool = False
    ) -> Path:
        """Write the model as a bundle, which loads everywhere as ``model="folder"``.

        Parameters
        ----------
        folder
            Where to write ``config.json``, ``model.safetensors`` and a table of each head's tracks
            (``tracks_human.tsv``).
        card
            Kept in ``config.json`` in place of the model's own: plain values.
        half
            Write float16, half the size; loading makes float32 of it again.

        Returns
        -------
        The folder.

        Raises
        ------
        RuntimeError
            If weights are not finite (in float16, with ``half``).
        """
        from .enformer_weights import to_published_enformer
        from .weights import refuse_not_finite, save_safetensors

        folder, spec = Path(folder), self.spec
        state = to_published_enformer(self.network)
        if half:
            state = {n: t.half() if t.is_floating_point() else t for n, t in state.items()}
        refuse_not_finite(state)
        content = {
            "format": BUNDLE_FORMAT,
            "name": spec.name,
            "system": spec.system,
            "tier": spec.tier,
            "shape": dataclasses.asdict(spec.shape),
            "window_bp": spec.window_bp,
            "licence": spec.licence,
            "source": spec.source,
            "note": spec.note,
            "card": plain(self.card if card is None else card),
        }
        folder.mkdir(parents=True, exist_ok=True)
        hashed = ["model.safetensors", *(table_name(head) for head in self.tables)]
        with written_together(folder, [*hashed, "config.json"]) as beside:
            save_safetensors(state, beside["model.safetensors"])
            for head, table in self.tables.items():
                write_table(table, beside[table_name(head)])
            content["sha256"] = {name: sha256_of(beside[name]) for name in hashed}
            write_json(beside["config.json"], content, indent=1)
        return folder

    def __repr__(self) -> str:
        return text_card(f"Loaded model {self.spec.name}", self._rows(), note=self.spec.note)

    def _repr_html_(self) -> str:
        return html_card(f"Loaded model {self.spec.name}", self._rows(), note=self.spec.note)

    def _rows(self) -> dict[str, object]:
        return {**self.spec._card(), "sha256 of weights": self.weights_sha256}


def read_track_folder(folder: Path, content: Mapping[str, Any]) -> TrackSpec:
    """The row that a folder's ``config.json`` describes: a bundle's, or one as published.

    Raises
    ------
    ValueError
        If it describes something else.
    RuntimeError
        If the bundle is of another format.
    """
    if is_published(content):
        return TrackSpec(**describe_track_folder(folder, content))
    check_format(folder, content)
    try:
        if not isinstance(content["sha256"], dict):
            raise TypeError("sha256 holds no names and hashes")
        spec = TrackSpec(
            name=content["name"],
            shape=EnformerConfig(**content["shape"]),
            window_bp=content["window_bp"],
            folder=folder,
            tier=content["tier"],
            licence=content["licence"],
            source=content["source"],
            note=content["note"],
        )
        spec.shape.n_bins(spec.window_bp)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a bundle that predicts tracks ({error}); "
            "expected name, system, shape, window_bp, tier, licence, source, note and sha256."
        ) from error
    return spec


def load_track_model(spec: TrackSpec) -> TrackModel:
    """Read a model's weights and tables, all held to their hashes."""
    from .enformer_weights import load_enformer
    from .weights import read_state

    tables = {head: spec.tracks(head) for head in spec.shape.heads}
    path, sha256 = _weights(spec)
    network = load_enformer(read_state(path), spec.shape)
    return TrackModel(spec, network, tables, sha256, _card(spec))


def _weights(spec: TrackSpec) -> tuple[Path, str]:
    """Path of the weights and their hash."""
    if spec.folder is None:
        with ways_out(spec):
            path = fetch(spec.weights)
        return path, digest_once(path, "sha256")
    if spec.is_bundle:
        path = bundle_file(spec.folder, "model.safetensors")
        return path, content_of(spec.folder / "config.json")["sha256"]["model.safetensors"]
    return spec.folder / spec.weights, sha256_of(spec.folder / spec.weights)


def _card(spec: TrackSpec) -> Mapping[str, Any]:
    """The card in a folder's ``config.json``; empty where there is none."""
    if spec.folder is None:
        return {}
    content = content_of(spec.folder / "config.json")
    card = (content if spec.is_bundle else content.get("glm", {})).get("card", {})
    return card if isinstance(card, dict) else {}
