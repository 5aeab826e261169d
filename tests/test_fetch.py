"""Published files: mirror before cache before network, always held to the hash, never deleted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import glm
from glm import _fetch
from glm._fetch import FILES, RemoteFile, fetch, local_path, sha256_of

CONTENT = b"what was published\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "geneformer/folder/file.pkl"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    with glm.settings.override(data_dir=tmp_path / "cache", offline=True, progress=False):
        yield tmp_path / "cache"


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of the table whose content is known here."""
    file = RemoteFile(PATH, "https://example.invalid/file.pkl", SHA256, len(CONTENT))
    monkeypatch.setitem(FILES, "file.pkl", file)
    return "file.pkl"


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# ---- the table ----------------------------------------------------------------------------------


def test_table_is_pinned():
    for name, file in FILES.items():
        assert file.path == name or file.path.endswith(f"/{name}")
        assert file.url.startswith("https://huggingface.co/ctheodoris/Geneformer/resolve/")
        assert len(file.url.split("/resolve/")[1].split("/")[0]) == 40  # a revision, no branch
        assert int(file.sha256, 16) > 0
        assert len(file.sha256) == 64
        assert file.n_bytes > 0
        assert not Path(file.path).is_absolute()
        assert ".." not in file.path


def test_table_has_no_file_twice():
    assert len({file.path for file in FILES.values()}) == len(FILES)
    assert len({file.sha256 for file in FILES.values()}) == len(FILES)


def test_dictionaries_here_are_those_of_the_table(test_data: Path):
    dictionaries = [name for name in FILES if name.endswith(".pkl")]
    assert len(dictionaries) == 8
    with glm.settings.override(mirror=test_data / "geneformer", offline=True):
        for name in dictionaries:
            assert fetch(name).stat().st_size == FILES[name].n_bytes


# ---- mirror, cache ------------------------------------------------------------------------------


def test_cache(cache: Path, name: str):
    assert local_path(name) is None
    file = put(cache / PATH)
    assert local_path(name) == fetch(name) == file


@pytest.mark.parametrize("place", [PATH, "folder/file.pkl", "file.pkl"])
def test_mirror_as_the_cache_as_the_repository_or_flat(
    cache: Path, name: str, tmp_path: Path, place: str
):
    file = put(tmp_path / "mirror" / place)
    with glm.settings.override(mirror=tmp_path / "mirror"):
        assert local_path(name) == fetch(name) == file


def test_mirror_comes_before_the_cache(cache: Path, name: str, tmp_path: Path):
    put(cache / PATH)
    file = put(tmp_path / "mirror" / PATH)
    with glm.settings.override(mirror=tmp_path / "mirror"):
        assert fetch(name) == file


def test_a_mirror_without_the_file_leads_to_the_cache(cache: Path, name: str, tmp_path: Path):
    file = put(cache / PATH)
    with glm.settings.override(mirror=tmp_path / "no-such-folder"):
        assert fetch(name) == file


def test_mirror_and_switch_from_the_environment(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GLM_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GLM_OFFLINE", "1")
    with pytest.raises(OSError, match="offline is set"):
        fetch(name)
    monkeypatch.setenv("GLM_MIRROR", str(tmp_path / "mirror"))
    file = put(tmp_path / "mirror" / PATH)
    assert fetch(name) == file


def test_weights_are_never_looked_for_by_their_bare_name(cache: Path, tmp_path: Path):
    """Every model's weights are called model.safetensors."""
    put(tmp_path / "model.safetensors")
    with glm.settings.override(mirror=tmp_path):
        assert local_path("geneformer/Geneformer-V2-104M/model.safetensors") is None


def test_unknown_names(cache: Path):
    with pytest.raises(KeyError):
        fetch("no-such-file")


# ---- another file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", CONTENT[:5], CONTENT + b"\n", CONTENT.replace(b"w", b"W")]
)
@pytest.mark.parametrize("where", ["mirror", "cache"])
def test_another_file_is_refused_and_kept(
    cache: Path, name: str, tmp_path: Path, where: str, content: bytes
):
    file = put((tmp_path if where == "mirror" else cache) / PATH, content)
    with (
        glm.settings.override(mirror=tmp_path),
        pytest.raises(OSError, match=r"is not the published file\.pkl") as caught,
    ):
        fetch(name)
    message = str(caught.value)
    for wanted in (SHA256, hashlib.sha256(content).hexdigest(), str(file), str(len(content))):
        assert wanted in message
    assert file.read_bytes() == content


# ---- without a connection -----------------------------------------------------------------------


def test_offline_says_how_to_get_it_by_hand(cache: Path, name: str):
    with pytest.raises(OSError, match="Nothing was fetched") as caught:
        fetch(name)
    for wanted in (FILES[name].url, SHA256, str(cache / PATH), "GLM_MIRROR", "19 bytes"):
        assert wanted in str(caught.value)
    assert not cache.exists()


def test_offline_never_asks_the_downloader(cache: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_fetch, "_download", lambda file: pytest.fail("it tried to download"))
    with pytest.raises(OSError, match="offline"):
        fetch(name)


# ---- with one: a server on this machine ---------------------------------------------------------


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, name: str
) -> Iterator[Path]:
    """A folder served on this machine, from which the file's entry in the table is fetched."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    folder = tmp_path / "served"
    folder.mkdir()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}/file.pkl"
        monkeypatch.setitem(FILES, name, RemoteFile(PATH, url, SHA256, len(CONTENT)))
        with glm.settings.override(offline=False):
            yield folder
        http.shutdown()
        thread.join()


def test_download(server: Path, cache: Path, name: str, caplog: pytest.LogCaptureFixture):
    put(server / "file.pkl")
    with caplog.at_level("INFO", logger="glm"):
        assert fetch(name) == cache / PATH
    assert "fetching http://127.0.0.1" in caplog.text
    assert (cache / PATH).read_bytes() == CONTENT
    assert [path.name for path in (cache / PATH).parent.iterdir()] == ["file.pkl"]
    put(server / "file.pkl", b"another")  # not asked again
    assert fetch(name) == cache / PATH


@pytest.mark.parametrize("content", [CONTENT[:9], b"", b"<!doctype html>please log in"])
def test_a_download_of_something_else_leaves_nothing(
    server: Path, cache: Path, name: str, content: bytes
):
    put(server / "file.pkl", content)
    with pytest.raises(OSError, match="The download failed") as caught:
        fetch(name)
    assert SHA256 in str(caught.value)
    assert list((cache / PATH).parent.iterdir()) == []
    put(server / "file.pkl")
    assert fetch(name) == cache / PATH


def test_a_file_that_is_not_there(server: Path, cache: Path, name: str):
    with pytest.raises(OSError, match=r"The download failed: .*404"):
        fetch(name)


def test_hash_of_a_file(tmp_path: Path):
    assert sha256_of(put(tmp_path / "a")) == SHA256
    assert sha256_of(str(put(tmp_path / "b", b""))) == hashlib.sha256().hexdigest()
