"""The models that ``glm`` knows: one row of data each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from .. import _fetch
from .config import BertConfig
from .vocabulary import GeneVocabulary, published_vocabulary

_BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True)
class ModelSpec:
    """A row of the registry: what a model is, where it comes from, how its authors read it.

    Attributes
    ----------
    name
        The name used everywhere, for example ``"geneformer-v1-10m"``.
    system
        ``"geneformer"``; also the default key of the slots.
    shape
        Shape of the encoder.
    pooling
        The authors' own pooling: ``"mean"`` over the genes or ``"cls"``.
    hidden_layer
        The authors' own layer.
    dictionary
        Name of the published dictionaries, ``""`` for a bundle.
    weights
        Entry of the download table, ``""`` where no hash is known or for a bundle.
    folder
        Folder of a bundle, else ``None``.
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
    system: str
    shape: BertConfig
    pooling: Literal["mean", "cls"]
    hidden_layer: str = "second_to_last"
    dictionary: str = ""
    weights: str = ""
    folder: Path | None = None
    tier: Literal["published", "demo", "local"] = "published"
    licence: str = "Apache-2.0"
    source: str = "https://huggingface.co/ctheodoris/Geneformer"
    note: str = ""

    @property
    def context(self) -> int:
        """Longest sentence in tokens."""
        return self.shape.n_positions

    def vocabulary(self) -> GeneVocabulary:
        """Read the model's vocabulary and hold it to the model's shape."""
        if self.folder is not None:
            path = bundle_file(self.folder, "vocabulary.json")
            stat = path.stat()
            vocabulary = _bundle_vocabulary(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        else:
            with ways_out(self.name):
                vocabulary = published_vocabulary(self.dictionary, context=self.context)
        if len(vocabulary) != self.shape.vocab_size or vocabulary.context != self.context:
            raise RuntimeError(
                f"{self.name} was made with a vocabulary of {self.shape.vocab_size:,} tokens and a "
                f"context of {self.context:,}; {vocabulary.name!r} has {len(vocabulary):,} and "
                f"{vocabulary.context:,}. They do not belong together."
            )
        return vocabulary

    @property
    def where(self) -> str:
        """Bundled, local, on this machine, to fetch, or of no known hash."""
        if self.folder is not None:
            return "bundled" if self.tier == "demo" else "local"
        if not self.weights:
            return "no known hash"
        return "to fetch" if _fetch.local_path(self.weights) is None else "on this machine"


@lru_cache(maxsize=8)
def _bundle_vocabulary(path: Path, stamp: tuple[int, ...]) -> GeneVocabulary:
    """Read a bundle's vocabulary, once a file: reading and hashing take longer than most uses.

    ``stamp`` is what changes with the file.
    """
    return GeneVocabulary.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _geneformer(
    name: str,
    n_layers: int,
    hidden_size: int,
    *,
    v2: bool,
    weights: str = "",
    note: str = "",
    intermediate_size: int | None = None,
) -> ModelSpec:
    shape = BertConfig(
        vocab_size=20_275 if v2 else 25_426,
        hidden_size=hidden_size,
        n_layers=n_layers,
        n_heads=hidden_size // 64,
        intermediate_size=intermediate_size or 2 * hidden_size,
        n_positions=4096 if v2 else 2048,
    )
    return ModelSpec(
        name=name,
        system="geneformer",
        shape=shape,
        pooling="cls" if v2 else "mean",
        dictionary="gc104M" if v2 else "gc30M",
        weights=weights and f"geneformer/{weights}/model.safetensors",
        note=note,
    )


_GC95M = (
    "Pretrained with dictionaries named gc95M, of the same size as gc104M, which are not published "
    "with a known hash: gc104M is used in their place."
)

# Shapes: the published config.json files; sources of the hashes: the repository's pointers.
_PUBLISHED = (
    _geneformer("geneformer-v1-10m", 6, 256, v2=False, weights="Geneformer-V1-10M"),
    _geneformer("geneformer-v1-12l-30m", 12, 512, v2=False),
    _geneformer("geneformer-12l-95m", 12, 512, v2=True, note=_GC95M),
    _geneformer("geneformer-12l-95m-clcancer", 12, 512, v2=True, note=_GC95M),
    _geneformer("geneformer-20l-95m", 20, 896, v2=True, note=_GC95M),
    _geneformer(
        "geneformer-v2-104m", 12, 768, v2=True, weights="Geneformer-V2-104M", intermediate_size=3072
    ),
    _geneformer(
        "geneformer-v2-104m-clcancer",
        12,
        768,
        v2=True,
        intermediate_size=3072,
        note="Continued on cancer cells.",
    ),
    _geneformer(
        "geneformer-v2-316m",
        18,
        1152,
        v2=True,
        weights="Geneformer-V2-316M",
        intermediate_size=4608,
    ),
)


@cache
def rows() -> dict[str, ModelSpec]:
    """Every known model by name: the published ones, then the bundled ones."""
    bundled = [read_bundle_spec(folder.parent) for folder in sorted(_BUNDLED.glob("*/config.json"))]
    return {spec.name: spec for spec in (*_PUBLISHED, *bundled)}


def get(name: str | Path) -> ModelSpec:
    """Return the row of a model.

    Parameters
    ----------
    name
        A name of :func:`glm.models.list`, or the path of a bundle's folder.

    Returns
    -------
    The row: shape, context, the authors' pooling and layer, licence, source. No weights are read.

    Raises
    ------
    KeyError
        If there is no such model; the message lists those there are.

    Examples
    --------
    >>> import glm
    >>> glm.models.get("geneformer-v1-10m").shape.hidden_size
    256
    """
    known = rows()
    if str(name) in known:
        return known[str(name)]
    if (Path(name).expanduser() / "config.json").is_file():
        return read_bundle_spec(Path(name).expanduser())
    raise KeyError(
        f"There is no model {str(name)!r}. Known are {', '.join(known)}; or give the path of a "
        "folder that holds a bundle (config.json, vocabulary.json, model.safetensors)."
    )


@contextmanager
def ways_out(name: str) -> Iterator[None]:
    """Add to an error about files that cannot be had what the user can do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{error}\nWith a connection, glm.models.prefetch({name!r}) fetches all it needs. "
            "To try glm without one, pass model='geneformer-tiny' (a small demonstration model)."
        ) from error


def bundle_file(folder: Path, name: str) -> Path:
    """Path of a bundle's file, held to the hash in its ``config.json``."""
    path = folder / name
    if not path.is_file():
        raise OSError(f"{folder} is not a whole bundle: {name} is missing.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    got, expected = _fetch.sha256_of(path), config.get("sha256", {}).get(name)
    if got != expected:
        raise OSError(
            f"{path} has the sha256 {got}, its config.json says {expected}: the bundle was changed "
            "or copied in part. Copy or save it again."
        )
    return path


def read_bundle_spec(folder: Path) -> ModelSpec:
    """The row that a bundle's ``config.json`` describes."""
    try:
        content: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return ModelSpec(
            name=content["name"],
            system=content["system"],
            shape=BertConfig(**content["shape"]),
            pooling=content["pooling"],
            hidden_layer=content["hidden_layer"],
            folder=folder,
            tier=content["tier"],
            licence=content["licence"],
            source=content["source"],
            note=content["note"],
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a glm bundle ({error}); expected name, "
            "system, shape, pooling, hidden_layer, tier, licence, source and note."
        ) from error
