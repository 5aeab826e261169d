"""What every fault test asserts, in one place: `refuses` and `accepts`.

After a refusal everything is as it was: the object, files, random states, torch's and logging's
settings; and the message says what, where and what to do. After a success nothing but the
documented slots was added, rows stand in the caller's order, and unusable ones are NaN, flagged, and
told of once.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import random
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import glm

if TYPE_CHECKING:
    from anndata import AnnData

TINY = "geneformer-tiny"
ERRORS = (ValueError, TypeError, KeyError, RuntimeError, OSError)
PARTS = ("layers", "obsm", "varm", "obsp", "varp", "uns")


def documented(verb: str, key: str | None) -> set[str]:
    """The slots that a verb says it sets."""
    if verb == "map_genes":
        name = key or "ensembl_id"
        return {f"var/{name}", f"uns/{name}"}
    name = key or "geneformer"
    if verb == "rank_encode":
        return {
            f"layers/rank_{name}",
            f"var/token_{name}",
            f"obs/n_ranked_{name}",
            f"uns/rank_{name}",
        }
    return {f"obsm/X_{name}", f"obs/{name}_ok", f"uns/X_{name}"}


# ---- what there is, as plain values that can be compared ---------------------------------------


def _digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _table(frame: pd.DataFrame) -> tuple[object, ...]:
    columns = [describe(frame[column]) for column in frame.columns]
    return (describe(frame.index), [str(column) for column in frame.columns], columns)


def describe(value: Any) -> Any:
    """Type, dtype, shape and content of anything that an AnnData can hold."""
    kind = type(value).__qualname__
    if sp.issparse(value):
        inner = {name: part for name, part in vars(value).items() if isinstance(part, np.ndarray)}
        flags = {n: v for n, v in vars(value).items() if isinstance(v, bool)}
        arrays = {name: describe(part) for name, part in inner.items()}
        return (kind, value.shape, arrays, flags)
    if isinstance(value, np.ndarray):
        content = [repr(x) for x in value.flat] if value.dtype == object else _digest(value)
        return (kind, str(value.dtype), value.shape, value.flags.writeable, content)
    if isinstance(value, pd.DataFrame):
        return (kind, *_table(value))
    if isinstance(value, pd.Index | pd.Series | pd.Categorical):
        labels = [repr(x) for x in value]
        categories = [repr(x) for x in getattr(value.dtype, "categories", ())]
        return (kind, str(value.dtype), str(getattr(value, "name", "")), labels, categories)
    if isinstance(value, Mapping):
        return {str(key): describe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return (kind, [describe(inner) for inner in value])
    if hasattr(value, "dask"):
        return (kind, str(value.dtype), value.chunks, value.name)
    if hasattr(value, "dtype") and hasattr(value, "shape"):  # in a file, which is compared itself
        return (kind, str(value.dtype), tuple(value.shape))
    return (kind, repr(value))


def describe_object(adata: AnnData) -> dict[str, Any]:
    """Every slot of an AnnData under its path, ``obs/kind`` for example, and what it is."""
    found: dict[str, Any] = {
        "is a view": adata.is_view,
        "backed": adata.isbacked,
        "X": describe(adata.X),
        "obs index": describe(adata.obs.index),
        "var index": describe(adata.var.index),
    }
    if adata.isbacked:
        found["file"] = hashlib.sha256(Path(adata.filename).read_bytes()).hexdigest()
    if adata.raw is not None:
        found["raw"] = (describe(adata.raw.X), describe(adata.raw.var))
    for axis in ("obs", "var"):
        table = getattr(adata, axis)
        found |= {f"{axis}/{column}": describe(table[column]) for column in table.columns}
    for part in PARTS:
        found |= {f"{part}/{name}": describe(v) for name, v in getattr(adata, part).items()}
    return found


def _files(*folders: Path) -> dict[str, tuple[int, int, str]]:
    return {
        str(path): (
            path.stat().st_mtime_ns,
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _describe_logging() -> dict[str, Any]:
    loggers = {"": logging.getLogger(), "glm": logging.getLogger("glm")}
    state = {name: (log.level, [*log.handlers], log.propagate) for name, log in loggers.items()}
    return {"disabled below": logging.root.manager.disable, **state}


def describe_world(folder: Path) -> dict[str, Any]:
    """Everything outside the object that a call must leave alone."""
    bundled = Path(str(glm.models.get(TINY).folder)).parent
    return {
        "random": hash(random.getstate()),
        "numpy's random": _digest(np.random.get_state()[1]),  # noqa: NPY002
        "torch's random": _digest(torch.get_rng_state().numpy()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
        ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "precision": (torch.get_float32_matmul_precision(), torch.get_default_dtype()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "numpy's errors": np.geterr(),
        "logging": _describe_logging(),
        "settings": repr(glm.settings),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)],
        "folder": os.getcwd(),
        "files": _files(folder, glm.settings.data_dir, bundled),
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    names = before.keys() | after.keys()
    return {
        name
        for name in names
        if name not in before or name not in after or before[name] != after[name]
    }


# ---- the two assertions ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the test's folder, and keep temporary files there, where they are noticed."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


@pytest.fixture
def refuses(tmp_path: Path) -> Callable[..., BaseException]:
    """Assert that a call raises what it should, says what it should, and leaves no trace.

    ``also`` names more objects that must stay as they are, such as the parent of a view.
    """

    def check(
        call: Callable[..., Any],
        adata: AnnData | None,
        error: type[Exception],
        *patterns: str,
        also: Iterable[AnnData] = (),
        **options: Any,
    ) -> BaseException:
        objects = [*([] if adata is None else [adata]), *also]
        before = [describe_object(each) for each in objects]
        world = describe_world(tmp_path)
        with pytest.raises(error) as caught:
            call(adata, **options) if adata is not None else call(**options)
        assert issubclass(error, ERRORS)
        for each, was in zip(objects, before, strict=True):
            assert _changes(was, describe_object(each)) == set(), "the object was changed"
        assert _changes(world, describe_world(tmp_path)) == set(), "the call left a trace"
        message = str(caught.value)
        for pattern in patterns:
            assert re.search(pattern, message), f"{pattern!r} is not in: {message}"
        return caught.value

    return check


@pytest.fixture
def accepts(tmp_path: Path) -> Callable[..., AnnData]:
    """Assert that a verb adds its documented slots and nothing else; returns the object.

    ``unusable`` are the numbers of the rows that cannot be computed, ``told`` one pattern for each
    warning that is expected beside the one about those rows.
    """

    def check(
        verb: Callable[..., Any],
        adata: AnnData,
        *,
        unusable: Sequence[int] = (),
        told: Sequence[str] = (),
        **options: Any,
    ) -> AnnData:
        name = inspect.unwrap(verb.func if isinstance(verb, functools.partial) else verb).__name__
        slots = documented(name, options.get("key_added"))
        before, world = describe_object(adata), describe_world(tmp_path)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            verb(adata, **options)
        assert _changes(world, describe_world(tmp_path)) == set(), "the call left a trace"
        after = describe_object(adata)
        changed = _changes(before, after) - {"is a view"}
        if before["is a view"]:  # X of an object of its own is the same values in another array
            kept = changed & before.keys()
            changed -= {slot for slot in kept if _same_values(before[slot], after.get(slot))}
        assert changed <= slots, "more than the documented slots changed"
        assert slots <= after.keys(), "documented slots are missing"
        _check_warnings(seen, [*told, *_about_rows(name, unusable, adata)])
        if name == "embed":
            _check_rows(adata, options.get("key_added") or "geneformer", unusable)
        return adata

    return check


def _same_values(before: Any, after: Any) -> bool:
    """Whether only the class differs, as ``SparseCSRMatrixView`` does from ``csr_matrix``."""
    return isinstance(after, tuple) and before[1:] == after[1:]


def _about_rows(verb: str, unusable: Sequence[int], adata: AnnData) -> list[str]:
    if not unusable or verb != "embed":
        return []
    first = re.escape(str(adata.obs_names[unusable[0]]))
    return [rf"{len(unusable)} of {adata.n_obs} .*NaN \({first}.*adata\[adata\.obs\["]


def _check_warnings(seen: list[warnings.WarningMessage], expected: Sequence[str]) -> None:
    ours = [str(w.message) for w in seen if issubclass(w.category, glm.GlmWarning)]
    assert len(ours) == len(expected), f"expected {len(expected)} warnings, got {ours}"
    for pattern in expected:
        assert any(re.search(pattern, text) for text in ours), f"{pattern!r} is not in {ours}"
    from_us = Path(glm.__file__).parent
    stray = [str(w.message) for w in seen if Path(w.filename).is_relative_to(from_us)]
    assert stray == [], "warnings point into the package"


def _check_rows(adata: AnnData, key: str, unusable: Sequence[int]) -> None:
    vectors, ok = adata.obsm[f"X_{key}"], adata.obs[f"{key}_ok"]
    assert isinstance(vectors, np.ndarray)
    assert vectors.dtype == np.float32
    assert ok.dtype == bool
    expected = np.ones(adata.n_obs, bool)
    expected[list(unusable)] = False
    np.testing.assert_array_equal(ok.to_numpy(), expected)
    np.testing.assert_array_equal(np.isfinite(vectors).all(axis=1), expected)
    assert np.isnan(vectors[~expected]).all()
    assert adata.uns[f"X_{key}"]["n_cells_unusable"] == len(unusable)


# ---- cells, a model and the verbs --------------------------------------------------------------


@pytest.fixture(scope="session")
def _thinned() -> AnnData:
    adata = glm.datasets.toy_cells(n_cells=6)
    rng = np.random.default_rng(0)
    thinned = rng.binomial(adata.X.toarray().astype(np.int64), 0.15).astype(np.float32)
    adata.X = sp.csr_matrix(thinned)
    return adata


@pytest.fixture
def cells(_thinned: AnnData) -> AnnData:
    """Six cells of some 300 genes each: CSR, float32, whole numbers, Ensembl ids."""
    return _thinned.copy()


@pytest.fixture(scope="session")
def model() -> glm.models.Model:
    return glm.models.load(TINY)


@pytest.fixture
def embed(model: glm.models.Model) -> functools.partial[Any]:
    return functools.partial(glm.tl.embed, model=model)


@pytest.fixture
def rank_encode() -> functools.partial[Any]:
    return functools.partial(glm.tl.rank_encode, model=TINY)


@pytest.fixture
def map_genes() -> functools.partial[Any]:
    return functools.partial(glm.pp.map_genes, model=TINY)


@pytest.fixture(params=["embed", "rank_encode"])
def verb(request: pytest.FixtureRequest) -> functools.partial[Any]:
    """Each of the verbs that read counts."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def results(embed: Any, rank_encode: Any) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Embed and rank a copy: vectors and dense ranks, for comparison."""

    def compute(adata: AnnData, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", glm.GlmWarning)
            embedded = embed(adata, copy=True, **options)
            ranked = rank_encode(adata, copy=True, **options)
        return embedded.obsm["X_geneformer"], ranked.layers["rank_geneformer"].toarray()

    return compute
