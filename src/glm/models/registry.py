"""The models that ``glm`` knows, by name or by folder: what a row says, and where rows are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from .. import _fetch
from .._cards import html_card
from .._messages import first_names
from .config import BertConfig, Head, Pooling, Task
from .kinds import Vocabulary, published_vocabulary, vocabulary_from
from .own_vocabulary import folder_vocabulary
from .published import describe_folder, is_published

_BUNDLED = Path(__file__).parent / "bundled"
BUNDLE_FORMAT = 1


@dataclass(frozen=True)
class ModelSpec:
    """A row of the registry: what a model is, where it comes from, how its authors read it.

    Attributes
    ----------
    name
        The name used everywhere, for example ``"geneformer-v1-10m"``.
    system
        ``"geneformer"``, ``"dnabert"`` or ``"grover"``; also the default key of the slots.
    shape
        Shape of the encoder.
    pooling
        The authors' own pooling: ``"mean"`` over the genes or ``"cls"``.
    hidden_layer
        The authors' own layer.
    dictionary
        Name of the published vocabulary (``"gc104M"``, ``"6-mers"``, ``"grover"``), ``""`` where it
        is in ``folder``.
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
    head
        What stands on the encoder: it predicts ``"tokens"``, the class of ``"cells"`` (of a whole
        sentence, so of a region for DNA), the class of ``"genes"`` (of each token), or there is
        ``"none"``.
    labels
        Names of those classes (or amounts), where they are known.
    task
        How the outputs of such a head are read (:data:`glm.models.config.Task`).
    """

    name: str
    system: str
    shape: BertConfig
    pooling: Pooling
    hidden_layer: str = "second_to_last"
    dictionary: str = ""
    weights: str = ""
    folder: Path | None = None
    tier: Literal["published", "demo", "local"] = "published"
    licence: str = "Apache-2.0"
    source: str = "https://huggingface.co/ctheodoris/Geneformer"
    note: str = ""
    head: Head = "tokens"
    labels: tuple[str, ...] = ()
    task: Task = ""

    @property
    def is_bundle(self) -> bool:
        """Whether ``folder`` is a bundle, with the hashes of its files in ``config.json``."""
        return self.folder is not None and not self.weights

    @property
    def context(self) -> int:
        """Longest sentence in tokens."""
        return self.shape.n_positions

    def vocabulary(self) -> Vocabulary:
        """Read the model's vocabulary and hold it to the model's shape."""
        vocabulary = self._vocabulary()
        if len(vocabulary) != self.shape.vocab_size or vocabulary.context != self.context:
            raise RuntimeError(
                f"{self.name} was made with a vocabulary of {self.shape.vocab_size:,} tokens and a "
                f"context of {self.context:,}; {vocabulary.name!r} has {len(vocabulary):,} and "
                f"{vocabulary.context:,}. They do not belong together."
            )
        return vocabulary

    def _vocabulary(self) -> Vocabulary:
        if self.folder is None or self.dictionary:
            with ways_out(self):
                return published_vocabulary(self.dictionary, context=self.context)
        if not self.is_bundle:
            return folder_vocabulary(self.folder, self.context)
        path = bundle_file(self.folder, "vocabulary.json")
        stat = path.stat()
        return _bundle_vocabulary(path, (stat.st_mtime_ns, stat.st_size, stat.st_ino))

    def _repr_html_(self) -> str:
        return html_card(f"Model {self.name}", self._card(), note=self.note)

    def _card(self) -> dict[str, object]:
        shape = self.shape
        return {
            "system": self.system,
            "tier": self.tier,
            "encoder": f"{shape.n_layers} layers × {shape.hidden_size:,}, {shape.n_heads} heads",
            "parameters": f"{shape.n_parameters:,}",
            "context": f"{self.context:,} tokens",
            "vocabulary": f"{shape.vocab_size:,} tokens",
            "published vocabulary": self.dictionary,
            "classes": first_names(self.labels, 10),
            "authors' pooling": self.pooling,
            "authors' layer": str(self.hidden_layer).replace("_", " "),
            "files": self.where,
            "licence": self.licence,
            "source": self.source,
        }

    @property
    def where(self) -> str:
        """Bundled, local, in memory, on this machine, to fetch, or of no known hash."""
        if self.folder is not None:
            return "bundled" if self.tier == "demo" else "local"
        if not self.weights:
            return "in memory"
        if _fetch.local_path(self.weights) is not None:
            return "on this machine"
        return "no known hash" if _fetch.FILES[self.weights].pin is None else "to fetch"


@lru_cache(maxsize=8)
def _bundle_vocabulary(path: Path, stamp: tuple[int, ...]) -> Vocabulary:
    """Read a bundle's vocabulary, once a file: reading and hashing take longer than most uses.

    ``stamp`` is what changes with the file.
    """
    return vocabulary_from(json.loads(path.read_text(encoding="utf-8")))


def _predicts_tracks(content: dict[str, Any]) -> bool:
    return content.get("system") == "enformer"


@cache
def rows() -> dict[str, ModelSpec]:
    """Every known model that reads sentences, by name: the published ones, then the bundled."""
    from .known import PUBLISHED

    places = sorted(_BUNDLED.glob("*/config.json"))
    bundled = [read_folder(at.parent) for at in places if not _predicts_tracks(_content_of(at))]
    return {spec.name: spec for spec in (*PUBLISHED, *bundled)}


def get(name: str | Path) -> ModelSpec:
    """Return the row of a model.

    Parameters
    ----------
    name
        A name of :func:`glm.models.list`, or the path of a folder: a bundle, or a checkpoint in the
        published layout (``config.json``, and ``model.safetensors`` or ``pytorch_model.bin``).

    Returns
    -------
    The row: shape, context, the authors' pooling and layer, licence, source. No weights are read.

    Raises
    ------
    KeyError
        If there is no such model; the message lists those there are.
    ValueError
        If a folder's ``config.json`` describes something else.

    Examples
    --------
    >>> import glm
    >>> glm.models.get("geneformer-v1-10m").shape.hidden_size
    256
    """
    known = rows()
    if str(name) in known:
        return known[str(name)]
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return read_folder(folder)
    raise KeyError(
        f"There is no model {str(name)!r}. Known are {', '.join(known)}; or give the path of a "
        "folder that holds a bundle (config.json, vocabulary.json, model.safetensors) or a "
        "checkpoint in the published layout (config.json, and model.safetensors or "
        "pytorch_model.bin)."
    )


@contextmanager
def ways_out(spec: ModelSpec) -> Iterator[None]:
    """Add to an error about files that cannot be had what the user can do."""
    try:
        yield
    except OSError as error:
        name = spec.name if spec.folder is None else str(spec.folder)
        unpinned = spec.folder is None and _fetch.FILES[spec.weights].pin is None
        raise OSError(
            f"{error}\nWith a connection, glm.models.prefetch({name!r}"
            f"{', allow_unpinned=True' if unpinned else ''}) fetches all it needs."
            f"{_without_a_connection(spec.system)}"
        ) from error


def _without_a_connection(system: str) -> str:
    """A bundled model that reads the same."""
    small = [row.name for row in rows().values() if (row.system, row.tier) == (system, "demo")]
    if not small:
        return ""
    return f" To try glm without one, pass model={small[0]!r} (a small demonstration model)."


def bundle_file(folder: Path, name: str) -> Path:
    """Path of a bundle's file, held to the hash in its ``config.json``."""
    path = folder / name
    if not path.is_file():
        raise OSError(f"{folder} is not a whole bundle: {name} is missing.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    got, expected = _fetch.sha256_of(path), config["sha256"].get(name)
    if got != expected:
        raise OSError(
            f"{path} has the sha256 {got}, its config.json says {expected}: the bundle was changed "
            "or copied in part. Copy or save it again."
        )
    return path


def read_folder(folder: Path) -> ModelSpec:
    """The row that a folder's ``config.json`` describes: a bundle's, or one as published."""
    content = _content_of(folder / "config.json")
    if _predicts_tracks(content):
        raise ValueError(
            f"{content.get('name', folder)} predicts tracks, it reads no sentences: use "
            "glm.tl.predict_tracks or glm.tl.embed_enformer."
        )
    if is_published(content):
        return ModelSpec(**describe_folder(folder, content))
    return _read_bundle(folder, content)


def _content_of(place: Path) -> dict[str, Any]:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} does not describe a model: it is no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{place} does not describe a model: it holds no names and values.")
    return content


def _read_bundle(folder: Path, content: dict[str, Any]) -> ModelSpec:
    written_as = content.get("format", BUNDLE_FORMAT)
    if written_as != BUNDLE_FORMAT:
        raise RuntimeError(
            f"{folder} is a bundle of format {written_as!r}; this version of glm reads format "
            f"{BUNDLE_FORMAT}. Update glm, or save the bundle again with this version."
        )
    try:
        if not isinstance(content["sha256"], dict):
            raise TypeError("sha256 holds no names and hashes")
        return ModelSpec(
            name=content["name"],
            system=content["system"],
            shape=BertConfig(**content["shape"]),
            pooling=_one_of(Pooling, content["pooling"]),
            hidden_layer=content["hidden_layer"],
            folder=folder,
            tier=content["tier"],
            licence=content["licence"],
            source=content["source"],
            note=content["note"],
            head=_one_of(Head, content.get("head", "tokens")),
            labels=_names(content.get("labels", [])),
            task=_one_of(Task, content.get("task", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder / 'config.json'} does not describe a glm bundle ({error}); expected name, "
            "system, shape, pooling, hidden_layer, tier, licence, source, note and sha256. A "
            "checkpoint in the published layout says model_type and architectures."
        ) from error


def _one_of(choice: Any, value: Any) -> Any:
    if value not in get_args(choice):
        raise TypeError(f"it says {value!r} where one of {get_args(choice)} is expected")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"it says {value!r} where a list of names is expected")
    return tuple(value)
