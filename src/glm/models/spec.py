"""A row of the registry: a model that reads sentences, of genes or of DNA."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from .. import _fetch
from .._cards import html_card
from .._messages import first_names
from .config import BertConfig, Head, Pooling, Task
from .kinds import Vocabulary, published_vocabulary, vocabulary_from
from .own_vocabulary import folder_vocabulary
from .places import bundle_file, ways_out


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
