"""A loaded model: weights, vocabulary and their hashes, from a bundle or published files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._cards import html_card, text_card
from .._fetch import fetch, sha256_of
from .._hashes import digest_once
from ._saving import check_labels, plain, state_to_save, write_json, written_together
from .kinds import Vocabulary, files_of
from .places import BUNDLE_FORMAT, bundle_file, ways_out
from .registry import ModelSpec, get

if TYPE_CHECKING:
    from .bert import Bert
    from .weights import Network

_HASHED = ("model.safetensors", "vocabulary.json")


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model ready to run.

    Attributes
    ----------
    spec
        Its row of the registry.
    vocabulary
        Its vocabulary.
    network
        Encoder and what stands on it, float32, in evaluation mode: a
        :class:`~glm.models.bert.MaskedLM`, a :class:`~glm.models.heads.Classifier` (whose
        ``classifier`` follows ``spec.labels``), or a :class:`~glm.models.bert.Bert` alone.
    weights_sha256
        Hash of the weights' file (``"unsaved"`` for weights that were never in one).
    card
        How it came about: of a trained model the recipe, what it was trained for and on, measured
        scores, calibration. Kept when it is saved.
    """

    spec: ModelSpec
    vocabulary: Vocabulary
    network: Network
    weights_sha256: str = "unsaved"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def encoder(self) -> Bert:
        """The encoder without its head."""
        from .bert import Bert

        return self.network if isinstance(self.network, Bert) else self.network.bert

    def __repr__(self) -> str:
        return text_card(f"Loaded model {self.spec.name}", self._rows(), note=self.spec.note)

    def _repr_html_(self) -> str:
        return html_card(f"Loaded model {self.spec.name}", self._rows(), note=self.spec.note)

    def _rows(self) -> dict[str, object]:
        return {
            **self.spec._card(),
            **self.vocabulary._holds(),
            "sha256 of weights": self.weights_sha256,
            "sha256 of vocabulary": self.vocabulary.sha256,
        }

    def save(
        self, folder: Path | str, *, card: Mapping[str, Any] | None = None, half: bool = False
    ) -> Path:
        """Write the model as a bundle, which loads everywhere as ``model="folder"``.

        Parameters
        ----------
        folder
            Where to write ``config.json`` (shape, classes by name, card, and the hashes of the
            others), ``vocabulary.json`` (ids, tokens and medians; of DNA the k, or the byte pairs)
            and ``model.safetensors``. A bundle that is there stays as it is unless all files could
            be written.
        card
            Kept in ``config.json`` in place of the model's own: plain values, NaN as ``None``.
        half
            Write float16, half the size; loading makes float32 of it again.

        Returns
        -------
        The folder.

        Raises
        ------
        RuntimeError
            If weights are not finite (in float16, with ``half``), or classes are not named each
            once.
        """
        from .weights import save_safetensors

        folder, spec = Path(folder), self.spec
        state = state_to_save(spec, self.network, half=half)
        content = {
            "format": BUNDLE_FORMAT,
            "name": spec.name,
            "system": spec.system,
            "tier": spec.tier,
            "shape": dataclasses.asdict(spec.shape),
            "pooling": spec.pooling,
            "hidden_layer": spec.hidden_layer,
            "licence": spec.licence,
            "source": spec.source,
            "note": spec.note,
            "head": spec.head,
            "labels": list(spec.labels),
            "task": spec.task,
            "card": plain(self.card if card is None else card),
        }
        folder.mkdir(parents=True, exist_ok=True)
        with written_together(folder, [*_HASHED, "config.json"]) as beside:
            save_safetensors(state, beside["model.safetensors"])
            write_json(beside["vocabulary.json"], self.vocabulary.to_dict())
            content["sha256"] = {name: sha256_of(beside[name]) for name in _HASHED}
            write_json(beside["config.json"], content, indent=1)
        return folder


def load(model: str | Path | Model) -> Model:
    """Load a model with its weights and vocabulary, both held to their hashes.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`; the path of a folder, which is a bundle or a checkpoint
        in the published layout (``config.json`` of a BERT, and ``model.safetensors`` or
        ``pytorch_model.bin``), such as fine-tuning with other tools leaves; or a loaded model
        (which is returned as it is).

    Returns
    -------
    The model, on the CPU, float32, in evaluation mode. Loading reads the weights once (40 MB to
    1.3 GB for published Geneformer models).

    Raises
    ------
    KeyError
        If there is no such model.
    OSError
        If its files are not here and cannot be fetched, or are not the published ones.
    RuntimeError
        If weights, shape and vocabulary do not belong together.
    ValueError
        If a folder's ``config.json`` describes something else, or its weights are packed strangely.

    Examples
    --------
    >>> import glm
    >>> model = glm.models.load("geneformer-tiny")
    >>> model.spec.tier
    'demo'
    """
    if isinstance(model, Model):
        return model
    from .weights import load_network, read_state

    spec = get(model)
    vocabulary = spec.vocabulary()
    path, sha256 = _weights(spec)
    network = load_network(read_state(path), spec.shape, spec.head)
    check_labels(spec, network)
    return Model(spec, vocabulary, network, sha256, _card(spec))


def _weights(spec: ModelSpec) -> tuple[Path, str]:
    """Path of the weights and their hash, computed once however it is used."""
    if spec.folder is None:
        with ways_out(spec):
            path = fetch(spec.weights)
        return path, digest_once(path, "sha256")
    if spec.is_bundle:
        path = bundle_file(spec.folder, "model.safetensors")
        config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
        return path, config["sha256"]["model.safetensors"]
    return spec.folder / spec.weights, sha256_of(spec.folder / spec.weights)


def _card(spec: ModelSpec) -> dict[str, Any]:
    """The card in a folder's ``config.json``; empty where there is none."""
    if spec.folder is None:
        return {}
    config = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))
    card = (config if spec.is_bundle else config.get("glm", {})).get("card", {})
    return card if isinstance(card, dict) else {}


def prefetch(
    names: str | Path | Iterable[str | Path], *, allow_unpinned: bool = False
) -> list[Path]:
    """Fetch everything that the named models need, for later use without a connection.

    Parameters
    ----------
    names
        One name or several; for a folder in the published layout, the dictionaries it needs.
    allow_unpinned
        Also take weights of which no hash is known. The hash of what comes is recorded in the
        cache, and every later load is held to it.

    Returns
    -------
    The paths of the files, weights and dictionaries.

    Raises
    ------
    KeyError
        If there is no such model.
    OSError
        If a file cannot be had, is not the published one, or has no known hash and
        ``allow_unpinned`` is false.

    Examples
    --------
    >>> import glm
    >>> glm.models.prefetch("geneformer-tiny")
    []
    """
    paths: list[Path] = []
    for spec in [get(name) for name in ([names] if isinstance(names, str | Path) else names)]:
        wanted = dictionaries(spec)
        if spec.folder is None:
            wanted.append(spec.weights)
        paths += [fetch(file, allow_unpinned=allow_unpinned) for file in wanted]
    return paths


def dictionaries(spec: ModelSpec) -> list[str]:
    """The published dictionaries that a model needs, by their names in the download table."""
    return files_of(spec.dictionary)
