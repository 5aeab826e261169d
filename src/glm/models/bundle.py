"""A loaded model: weights, vocabulary and their hashes, from a bundle or published files."""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._fetch import FILES, fetch, sha256_of
from .registry import ModelSpec, bundle_file, get, ways_out
from .vocabulary import GeneVocabulary

if TYPE_CHECKING:
    from .bert import Bert, MaskedLM

_HASHED = ("model.safetensors", "vocabulary.json")


@dataclass(frozen=True, eq=False)
class Model:
    """A model ready to run.

    Attributes
    ----------
    spec
        Its row of the registry.
    vocabulary
        Its vocabulary.
    network
        Encoder with the masked-token head, float32, in evaluation mode.
    weights_sha256
        Hash of the weights' file (``"unsaved"`` for weights that were never in one).
    """

    spec: ModelSpec
    vocabulary: GeneVocabulary
    network: MaskedLM
    weights_sha256: str = "unsaved"

    @property
    def encoder(self) -> Bert:
        """The encoder without its head."""
        return self.network.bert

    def save(
        self, folder: Path | str, *, card: dict[str, object] | None = None, half: bool = False
    ) -> Path:
        """Write the model as a bundle: ``config.json``, ``vocabulary.json``, ``model.safetensors``.

        ``card`` is kept in ``config.json``. ``half=True`` writes float16, half the size; loading
        makes float32 of it again. A bundle that is there stays as it is unless all files could be
        written.
        """
        from .weights import save_safetensors, to_published

        folder, spec = Path(folder), self.spec
        folder.mkdir(parents=True, exist_ok=True)
        state = to_published(self.network)
        if half:
            state = {name: tensor.half() for name, tensor in state.items()}
        content = {
            "name": spec.name,
            "system": spec.system,
            "tier": spec.tier,
            "shape": dataclasses.asdict(spec.shape),
            "pooling": spec.pooling,
            "hidden_layer": spec.hidden_layer,
            "licence": spec.licence,
            "source": spec.source,
            "note": spec.note,
            "card": card or {},
        }
        with _written_together(folder, [*_HASHED, "config.json"]) as beside:
            save_safetensors(state, beside["model.safetensors"])
            _write_json(beside["vocabulary.json"], self.vocabulary.to_dict())
            content["sha256"] = {name: sha256_of(beside[name]) for name in _HASHED}
            _write_json(beside["config.json"], content, indent=1)
        return folder


@contextmanager
def _written_together(folder: Path, names: list[str]) -> Iterator[dict[str, Path]]:
    """Paths to write to, which take the places of the named files once all of them are whole."""
    mark = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    beside = {name: folder / f".{name}.{mark}" for name in names}
    try:
        yield beside
        for path in beside.values():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())
        for name, path in beside.items():
            os.replace(path, folder / name)
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def _write_json(path: Path, content: object, indent: int | None = None) -> None:
    path.write_text(json.dumps(content, indent=indent, allow_nan=False) + "\n", encoding="utf-8")


def load(model: str | Path | Model) -> Model:
    """Load a model with its weights and vocabulary, both held to their hashes.

    Parameters
    ----------
    model
        A name of :func:`glm.models.list`, the path of a bundle's folder, or a loaded model (which
        is returned as it is).

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

    Examples
    --------
    >>> import glm
    >>> model = glm.models.load("geneformer-tiny")
    >>> model.spec.tier
    'demo'
    """
    if isinstance(model, Model):
        return model
    from .weights import load_bert, read_state

    spec = get(model)
    vocabulary = spec.vocabulary()
    path = _weights_path(spec)
    network = load_bert(read_state(path), spec.shape)
    return Model(spec, vocabulary, network.eval(), sha256_of(path))


def _weights_path(spec: ModelSpec) -> Path:
    if spec.folder is not None:
        return bundle_file(spec.folder, "model.safetensors")
    if not spec.weights:
        raise OSError(
            f"The weights of {spec.name} are published at {spec.source} but no hash of them is "
            "known here, so they are not fetched. Ranks can be computed with its dictionaries."
        )
    with ways_out(spec.name):
        return fetch(spec.weights)


def prefetch(names: str | list[str]) -> list[Path]:
    """Fetch everything that the named models need, for later use without a connection.

    Parameters
    ----------
    names
        One name or several.

    Returns
    -------
    The paths of the files, weights and dictionaries.

    Raises
    ------
    KeyError
        If there is no such model.
    OSError
        If a file cannot be had or is not the published one.

    Examples
    --------
    >>> import glm
    >>> glm.models.prefetch("geneformer-tiny")
    []
    """
    paths: list[Path] = []
    for name in [names] if isinstance(names, str) else names:
        spec = get(name)
        if spec.folder is not None:
            continue
        wanted = [file for file in FILES if file.endswith(f"_{spec.dictionary}.pkl")]
        paths += [fetch(file) for file in wanted]
        paths.append(_weights_path(spec))
    return paths
