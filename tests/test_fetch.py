"""Published files: mirror before cache before network, always held to the hash, never deleted."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import glm
from glm import _fetch, _hashes
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
        assert file.url.startswith("https://")
        assert file.licence
        assert not Path(file.path).is_absolute()
        assert ".." not in file.path


# By consent alone; the revisions of the last three were not seen either.
UNPINNED = [
    "geneformer/Geneformer-V2-104M_CLcancer/model.safetensors",
    "dnabert/DNA_bert_6/pytorch_model.bin",
    "dnabert/DNA_bert_3/pytorch_model.bin",
    "dnabert/DNA_bert_4/pytorch_model.bin",
    "dnabert/DNA_bert_5/pytorch_model.bin",
]


def test_files_of_models_name_their_revision():
    hub = {name: file for name, file in FILES.items() if "/resolve/" in file.url}
    assert len({file.path.partition("/")[0] for file in hub.values()}) >= 3
    for name, file in hub.items():
        repository, _, rest = file.url.partition("/resolve/")
        served, _, place = rest.partition("/")
        assert repository.startswith("https://huggingface.co/")
        assert f"{repository}/{place}".endswith(file.path.partition("/")[2])
        assert served == (file.revision or "main")
        # A branch may move on, which the hash notices.
        assert len(served) == 40 or file.pin or name in UNPINNED[2:]


def test_nearly_all_are_held_to_a_hash():
    assert {name for name, file in FILES.items() if file.pin is None} == set(UNPINNED)
    for name in FILES.keys() - set(UNPINNED):
        kind, value = FILES[name].pin
        assert len(value) == {"sha256": 64, "md5": 32}[kind]
        assert int(value, 16) > 0
        assert FILES[name].n_bytes or FILES[name].path.startswith("genomes/")


def test_table_has_no_file_twice():
    assert len({file.path for file in FILES.values()}) == len(FILES)
    pins = [file.pin for file in FILES.values() if file.pin is not None]
    assert len(set(pins)) == len(pins)


@pytest.mark.parametrize("name", ["hg19.2bit", "genomes/hg19.2bit"])
def test_another_kind_of_file_joins_as_one_row(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    """Held to an md5, of no known size, found flat in a mirror if its bare name is its key."""
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    row = RemoteFile("genomes/hg19.2bit", "https://example.invalid/x", md5=md5)
    monkeypatch.setitem(FILES, name, row)
    file = put(tmp_path / "mirror" / "hg19.2bit")
    with glm.settings.override(mirror=tmp_path / "mirror"):
        assert local_path(name) == file
        assert fetch(name) == file
        file.write_bytes(b"other")
        with pytest.raises(OSError, match=rf"its md5 is .*expected {md5} \(size not known\)"):
            fetch(name)


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
    monkeypatch.setattr(_fetch, "_download", lambda *_: pytest.fail("it tried to download"))
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
    assert os.stat(cache / PATH).st_mode & 0o777 == 0o666 & ~_umask()
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


def test_progress_follows_the_setting(
    server: Path, cache: Path, name: str, capsys: pytest.CaptureFixture[str]
):
    put(server / "file.pkl")
    fetch(name)
    assert capsys.readouterr().err == ""
    (cache / PATH).unlink()
    with glm.settings.override(progress=True):
        fetch(name)
    assert "file.pkl: 100%" in capsys.readouterr().err


def test_a_wrong_file_in_the_cache_is_replaced_by_the_published_one(
    server: Path, cache: Path, name: str
):
    put(cache / PATH, b"an older revision")
    put(server / "file.pkl")
    assert fetch(name).read_bytes() == CONTENT


def test_a_wrong_file_in_a_mirror_is_the_owners_to_put_right(
    server: Path, cache: Path, name: str, tmp_path: Path
):
    put(server / "file.pkl")
    file = put(tmp_path / "mirror" / PATH, b"an older revision")
    with (
        glm.settings.override(mirror=tmp_path / "mirror"),
        pytest.raises(OSError, match="is not the published"),
    ):
        fetch(name)
    assert file.read_bytes() == b"an older revision"
    assert not (cache / PATH).exists()


def _umask() -> int:
    usual = os.umask(0)
    os.umask(usual)
    return usual


# ---- hashed once --------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were read to be hashed."""
    read: list[Path] = []
    real = _hashes.digest

    def digest(path: Path, kind: str) -> str:
        read.append(path)
        return real(path, kind)

    monkeypatch.setattr(_hashes, "digest", digest)
    monkeypatch.setattr(_hashes, "WORTH_KEEPING", 0)
    return read


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process does."""
    monkeypatch.setattr(_hashes, "_seen", {})


@pytest.mark.parametrize("where", ["mirror", "cache"])
def test_hashed_once(
    cache: Path,
    name: str,
    tmp_path: Path,
    hashed: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
):
    file = put((cache if where == "cache" else tmp_path / "mirror") / PATH)
    with glm.settings.override(mirror=tmp_path / "mirror"):
        for _ in range(3):
            assert fetch(name) == file
            forget(monkeypatch)
        assert hashed == [file]
        for change in (1, 2):  # in time, then in size too
            file.write_bytes(CONTENT + b"x" * (change - 1))
            os.utime(file, ns=(0, change))
            if change == 1:
                assert fetch(name) == file
            else:
                with pytest.raises(OSError, match="is not the published"):
                    fetch(name)
            assert len(hashed) == 1 + change


def test_a_changed_file_with_the_old_time(cache: Path, name: str, hashed: list[Path]):
    """As programs leave it that copy or unpack with the time of the original."""
    file = put(cache / PATH)
    fetch(name)
    before = file.stat().st_mtime_ns
    file.write_bytes(CONTENT[::-1])
    os.utime(file, ns=(before, before))
    with glm.settings.override(offline=True), pytest.raises(OSError, match="is not the published"):
        fetch(name)


def test_hashes_of_different_kinds_are_kept_apart(tmp_path: Path):
    file = put(tmp_path / "file")
    for kind in ("sha256", "md5", "sha256"):
        assert _hashes.digest_once(file, kind) == _hashes.digest(file, kind)


def test_a_download_is_not_read_again(
    server: Path, cache: Path, name: str, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
):
    put(server / "file.pkl")
    fetch(name)
    forget(monkeypatch)
    fetch(name)
    assert hashed == []


def test_a_cache_that_moved_is_still_known(
    cache: Path, name: str, tmp_path: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
):
    put(cache / PATH)
    fetch(name)
    forget(monkeypatch)
    cache.rename(tmp_path / "moved")
    with glm.settings.override(data_dir=tmp_path / "moved"):
        assert fetch(name) == tmp_path / "moved" / PATH
    assert len(hashed) == 1


def test_small_files_are_not_worth_keeping_book_of(cache: Path, name: str):
    """Dictionaries: a verb that only reads them from a mirror leaves the cache as it was."""
    put(cache / PATH)
    fetch(name)
    assert not (cache / _hashes.MEMORY).exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[1, 2]", b"[" * 100_000, b'{"%s": 3}', b'{"%s": [1, "a", 2, 3]}'],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_memory_is_as_good_as_none(
    cache: Path,
    name: str,
    hashed: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
):
    file = put(cache / PATH)
    memory = put(cache / _hashes.MEMORY, content.replace(b"%s", PATH.encode()))
    for _ in range(2):
        assert fetch(name) == file
        forget(monkeypatch)
    assert hashed == [file]
    assert list(json.loads(memory.read_text())) == [PATH]


def test_what_is_wrong_is_not_remembered(cache: Path, name: str, hashed: list[Path]):
    put(cache / PATH, b"something else")
    with pytest.raises(OSError, match="is not the published"):
        fetch(name)
    assert not (cache / _hashes.MEMORY).exists()


# ---- files of which no hash is known ------------------------------------------------------------


@pytest.fixture
def unpinned(server: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(FILES, name, RemoteFile(PATH, FILES[name].url))
    put(server / "file.pkl")
    return name


def test_unpinned_files_only_by_consent(server: Path, cache: Path, unpinned: str):
    for _ in range(2):
        with pytest.raises(OSError, match=r"no hash of it is known.*allow_unpinned=True") as caught:
            fetch(unpinned)
        for part in (FILES[unpinned].url, "size not known", str(cache / PATH), "GLM_MIRROR"):
            assert part in str(caught.value)  # for those who fetch it by hand
        assert not cache.exists()
    assert fetch(unpinned, allow_unpinned=True) == cache / PATH
    record = cache / f"{PATH}.sha256"
    assert record.read_text() == f"{SHA256}  file.pkl\n"  # what sha256sum -c reads
    assert fetch(unpinned) == cache / PATH  # consent was given


def test_unpinned_files_are_held_to_what_came_first(server: Path, cache: Path, unpinned: str):
    fetch(unpinned, allow_unpinned=True)
    (cache / PATH).unlink()
    put(server / "file.pkl", b"another")
    for consent in (False, True):
        with pytest.raises(OSError, match="what came is not the file") as caught:
            fetch(unpinned, allow_unpinned=consent)
        assert SHA256 in str(caught.value)
    put(cache / PATH, b"another")
    with (
        glm.settings.override(offline=True),
        pytest.raises(OSError, match="not the first recorded"),
    ):
        fetch(unpinned)
    put(server / "file.pkl")
    assert fetch(unpinned).read_bytes() == CONTENT


def test_a_record_travels_with_a_mirror(server: Path, cache: Path, unpinned: str, tmp_path: Path):
    fetch(unpinned, allow_unpinned=True)
    cache.rename(tmp_path / "mirror")
    with glm.settings.override(mirror=tmp_path / "mirror", offline=True):
        assert fetch(unpinned) == tmp_path / "mirror" / PATH


def test_an_unpinned_file_put_there_by_hand_is_recorded_by_consent(
    cache: Path, unpinned: str, tmp_path: Path
):
    file = put(tmp_path / "mirror" / PATH)
    with glm.settings.override(mirror=tmp_path / "mirror", offline=True):
        with pytest.raises(OSError, match="no hash of it is known"):
            fetch(unpinned)
        assert fetch(unpinned, allow_unpinned=True) == file == fetch(unpinned)
    assert (cache / f"{PATH}.sha256").is_file()


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"version https://git-lfs.x/v1"])
def test_what_is_no_file_is_not_recorded(server: Path, cache: Path, unpinned: str, content: bytes):
    put(server / "file.pkl", content)
    with pytest.raises(OSError, match=r"The download failed: what came is not the file"):
        fetch(unpinned, allow_unpinned=True)
    assert list((cache / PATH).parent.iterdir()) == []


def test_a_damaged_record_is_not_read_as_consent(cache: Path, unpinned: str):
    put(cache / PATH)
    put(cache / f"{PATH}.sha256", b"nonsense")
    for consent in (False, True):
        with pytest.raises(OSError, match="does not hold the sha256 that was recorded"):
            fetch(unpinned, allow_unpinned=consent)


# ---- hashes -------------------------------------------------------------------------------------


def test_hash_of_a_file(tmp_path: Path):
    assert sha256_of(put(tmp_path / "a")) == SHA256
    assert sha256_of(str(put(tmp_path / "b", b""))) == hashlib.sha256().hexdigest()
