"""Whether a model on this machine is whole, and computes what it computed elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np

from .._atomic import replacing
from .._fetch import FILES, fetch, local_path, pin_of
from .._hashes import digest
from ..bases import to_codes
from ._checks import (
    EXPECTED,
    TOLERANCE,
    Check,
    Verification,
    compare_output,
    expected_of,
    nothing_expected,
    unusable,
)
from ._verify_tracks import check_track_model
from .any_model import get, load
from .bundle import Model, dictionaries
from .bundle import load as load_sentence_model
from .config import Pooling
from .places import ways_out
from .reads import dna_vocabulary
from .registry import ModelSpec
from .track_model import TrackModel, TrackSpec

__all__ = ["Verification", "record_expected", "verify"]


def verify(name: str | Path) -> Verification:
    """Read a model's files again and hold them to everything that is known of them.

    Every file is hashed anew, whatever is remembered of it; weights, shape and vocabulary, or
    tables of tracks, must belong together; and where an expected output of the model is known
    (``expected.json`` of a bundle; for GROVER and Enformer what another tool computed of the
    official checkpoint), it is computed and compared. Of Enformer that is an embedding of 196,608
    bases, with positional features as that tool made them: it shows that the weights are right, and
    costs 40 seconds of one core and 2 GB. Opens no connection.

    Parameters
    ----------
    name
        A name of :func:`glm.models.list`, or the path of a folder.

    Returns
    -------
    A report: text when printed, a table in a notebook. Its ``checks`` say what was looked at.

    Raises
    ------
    RuntimeError
        If anything is wrong; the message is the report.
    OSError
        If files of the model are not on this machine.
    KeyError
        If there is no such model.

    Examples
    --------
    >>> import glm
    >>> glm.models.verify("geneformer-tiny").ok
    True
    """
    spec = get(name)
    checks = list(_check_files(spec))
    if all(check.ok for check in checks):
        try:
            model = load(name)
        except (RuntimeError, ValueError) as error:
            checks.append(Check("structure", False, str(error)))
        else:
            if isinstance(model, TrackModel):
                checks += check_track_model(model)
            else:
                checks += [_describe(model), *_check_output(model)]
    report = Verification(str(name), tuple(checks))
    if not report.ok:
        raise RuntimeError(str(report))
    return report


def _check_files(spec: ModelSpec | TrackSpec) -> Iterator[Check]:
    for name in spec.files if isinstance(spec, TrackSpec) else _files(spec):
        path = local_path(name)
        if path is None:
            with ways_out(spec):
                raise OSError(f"{FILES[name].name} of {spec.name} is not on this machine.")
        pin = pin_of(name)
        if pin is None:
            fetch(name)  # says how to consent
        else:
            yield _compare(path, *pin)
    if spec.is_bundle and spec.folder is not None:
        hashes = json.loads((spec.folder / "config.json").read_text(encoding="utf-8"))["sha256"]
        for name, expected in hashes.items():
            yield _compare(spec.folder / name, "sha256", expected)
    elif spec.folder is not None:
        yield _recognise(spec.folder / spec.weights)


def _files(spec: ModelSpec) -> list[str]:
    return [*dictionaries(spec), *([spec.weights] if spec.folder is None else [])]


def _compare(path: Path, kind: str, expected: str) -> Check:
    got = digest(path, kind)
    found = f"{kind} {got}" + ("" if got == expected else f", expected {expected}")
    return Check(str(path), got == expected, found)


def _recognise(path: Path) -> Check:
    """The weights of a folder are held to nothing, but may be published ones."""
    got = digest(path, "sha256")
    known = [file.path for file in FILES.values() if file.sha256 == got]
    what = f"the published {known[0]}" if known else "no published file, nothing to hold it to"
    return Check(str(path), True, f"sha256 {got}: {what}")


def _describe(model: Model) -> Check:
    n_weights = sum(parameter.numel() for parameter in model.network.parameters())
    return Check(
        "structure",
        True,
        f"{n_weights:,} weights, all finite, in {model.spec.shape.n_layers} layers; vocabulary "
        f"{model.vocabulary.name} of {len(model.vocabulary):,} tokens",
    )


# ---- expected output -----------------------------------------------------------------------------


def record_expected(folder: Path | str, tokens: list[int], *, card: str = "") -> Path:
    """Write ``expected.json`` into a bundle: what its weights make of one sentence.

    Parameters
    ----------
    folder
        The bundle.
    tokens
        The sentence, special tokens included.
    card
        Where the output was computed, in words.
    """
    model = load_sentence_model(folder)
    vector = _compute(model, tokens)
    content = {
        "tokens": tokens,
        "vector": vector,
        "tolerance": TOLERANCE * max(abs(value) for value in vector),
        "card": card,
    }
    target = Path(folder) / EXPECTED
    with replacing(target) as beside:
        beside.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")
    return target


def _check_output(model: Model) -> Iterator[Check]:
    path = expected_of(model.spec.name, model.spec.folder)
    if not path.is_file():
        yield nothing_expected()
        return
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tokens, expected = [int(t) for t in content["tokens"]], content["vector"]
        if "text" in content:
            yield _check_tokens(model, content["text"], tokens)
        got = _compute(model, tokens, content.get("pooling"), content.get("hidden_layer"))
        what = f"embedding of {len(tokens)} tokens"
        yield compare_output(what, got, expected, float(content["tolerance"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        yield unusable(path, error)


def _check_tokens(model: Model, text: str, expected: list[int]) -> Check:
    """Whether a piece of DNA becomes the tokens that it became elsewhere."""
    codes, special = to_codes(text), model.vocabulary.special
    inner, _, _ = dna_vocabulary(model).encode(codes, np.array([0, codes.size]))
    tokens = [special["cls"], *inner.tolist(), special["eos"]]
    found = f"{len(tokens)} of {len(text)} bases"
    return Check(
        "tokens",
        tokens == expected,
        found if tokens == expected else f"{found}: {tokens}, expected {expected}",
    )


def _compute(
    model: Model, tokens: list[int], pooling: str | None = None, hidden_layer: str | None = None
) -> list[float]:
    """The embedding of one sentence by the plain encoder, as the authors read it or as is said.

    ``pooling="all"`` is the mean over all tokens, special ones included.
    """
    import torch

    spec, special = model.spec, model.vocabulary.special
    pooling = pooling or spec.pooling
    if pooling not in ("all", *get_args(Pooling)):
        raise ValueError(f"pooling is {pooling!r}; expected 'mean', 'cls' or 'all'")
    layer = spec.shape.layer_index(hidden_layer or spec.hidden_layer)
    with torch.inference_mode():
        (hidden,) = model.encoder(torch.tensor([tokens]), hidden_layer=layer)
    if pooling == "cls":
        return hidden[0].tolist()
    if pooling == "all":
        return hidden.mean(dim=0).tolist()
    inner = [i for i, token in enumerate(tokens) if token not in special.values()]
    return hidden[inner].mean(dim=0).tolist()
