"""Settings: the environment at each use, what is set before it, and back again."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glm._settings import Settings, settings


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for variable in ("GLM_DATA_DIR", "GLM_MIRROR", "GLM_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return Settings()


def test_defaults(fresh: Settings):
    assert fresh.data_dir == Path.home() / ".cache" / "glm"
    assert fresh.mirror is None
    assert fresh.offline is False
    assert fresh.progress is None
    assert fresh.n_threads >= 1


def test_environment_is_read_at_each_use(fresh: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert fresh.data_dir == Path("/elsewhere/glm")
    monkeypatch.setenv("GLM_DATA_DIR", "~/data")
    assert fresh.data_dir == Path.home() / "data"
    monkeypatch.setenv("GLM_MIRROR", "/mirror")
    assert fresh.mirror == Path("/mirror")
    monkeypatch.delenv("GLM_MIRROR")
    assert fresh.mirror is None


@pytest.mark.parametrize(
    ("value", "offline"),
    [("1", True), ("true", True), ("yes", True), ("0", False), ("", False), (" False ", False)],
)
def test_offline_switch(
    fresh: Settings, monkeypatch: pytest.MonkeyPatch, value: str, offline: bool
):
    monkeypatch.setenv("GLM_OFFLINE", value)
    assert fresh.offline is offline


def test_what_is_set_comes_before_the_environment(fresh: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GLM_OFFLINE", "1")
    monkeypatch.setenv("GLM_DATA_DIR", "/from-environment")
    fresh.offline, fresh.data_dir = False, "~/set"
    assert fresh.offline is False
    assert fresh.data_dir == Path.home() / "set"
    fresh.offline = fresh.data_dir = None
    assert fresh.offline is True
    assert fresh.data_dir == Path("/from-environment")


def test_override_restores(fresh: Settings):
    fresh.n_threads = 3
    with fresh.override(n_threads=1, progress=False) as inside:
        assert inside is fresh
        assert (fresh.n_threads, fresh.progress) == (1, False)
        fresh.offline = True
    assert (fresh.n_threads, fresh.progress, fresh.offline) == (3, None, False)


def test_override_restores_after_an_error(fresh: Settings):
    with pytest.raises(KeyError), fresh.override(n_threads=1):
        raise KeyError
    with pytest.raises(AttributeError), fresh.override(n_threads=1, threads=2):
        pass
    assert fresh._set == {}


def test_unknown_names_list_the_known(fresh: Settings):
    with pytest.raises(AttributeError, match=r"no 'threads'; it has data_dir, .*n_threads"):
        fresh.threads = 2


@pytest.mark.parametrize("value", [0, -1])
def test_too_few_threads(fresh: Settings, value: int):
    with pytest.raises(ValueError, match="at least 1"):
        fresh.n_threads = value


def test_threads_are_those_this_process_may_use(fresh: Settings):
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not bind processes to processors")
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert fresh.n_threads == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_shown(fresh: Settings):
    fresh.n_threads = 7
    assert "n_threads=7" in repr(fresh)
    assert "offline=False" in repr(fresh)


def test_one_for_the_package():
    import glm

    assert glm.settings is settings


def test_logging_is_left_to_the_user():
    """Importing adds no handler that prints, sets no level, and does not touch the root logger."""
    code = (
        "import logging; before = logging.root.handlers[:], logging.root.level; import glm; "
        "logger = logging.getLogger('glm'); "
        "assert (logging.root.handlers[:], logging.root.level) == before; "
        "assert [type(h).__name__ for h in logger.handlers] == ['NullHandler']; "
        "assert logger.level == logging.NOTSET and logger.propagate"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert logging.getLogger("glm").level == logging.NOTSET
