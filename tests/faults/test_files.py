"""Weights and the cache: servers that lie and die, disks that are full, files that are traps."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pickle
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import glm
from glm import _download, _fetch, _hashes
from glm._fetch import FILES, RemoteFile, fetch
from glm.models import Model, load
from glm.models.weights import read_state, save_safetensors, to_published

pytestmark = pytest.mark.faults

CONTENT = bytes(range(256)) * 256
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "weights.bin"
PATH = f"geneformer/folder/{NAME}"
HTML = b"<!DOCTYPE html><html><body>Please sign in to your university</body></html>"


# ---- a server that misbehaves ------------------------------------------------------------------


class Server:
    """Serves ``content`` in the way that ``manner`` says, and counts what it is asked."""

    def __init__(self) -> None:
        self.content, self.manner = CONTENT, "whole"
        self.requests: list[str] = []
        self.halfway, self.go_on = threading.Event(), threading.Event()
        self.url = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(request.path)
        if self.manner == "missing":
            return request.send_error(404)
        if self.manner == "broken":
            return request.send_error(503)
        request.send_response(200)
        if self.manner != "no length":
            request.send_header("Content-Length", str(len(self.content)))
        request.end_headers()
        half = len(self.content) // 2
        if self.manner in ("whole", "no length"):
            request.wfile.write(self.content)
            return None
        request.wfile.write(self.content[:half])
        request.wfile.flush()
        self.halfway.set()
        if self.manner in ("stall", "wait"):
            self.go_on.wait(50)
        if self.manner == "wait":
            request.wfile.write(self.content[half:])
        if self.manner == "die":  # reset, not closed
            request.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            request.connection.close()
        return None  # "truncate" closes with half of it sent


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):  # the client may have left
                served.answer(self)

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(_download, "TIMEOUT", (2.0, 0.5))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads, http.block_on_close = True, False
        http.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}/{NAME}"
        monkeypatch.setitem(FILES, NAME, RemoteFile(PATH, served.url, SHA256, len(CONTENT)))
        yield served
        served.go_on.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    with glm.settings.override(data_dir=tmp_path / "cache", progress=False):
        yield tmp_path / "cache"


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


WRONG = {
    "truncated": (CONTENT[:1000], "truncate"),
    "flipped": (CONTENT[:500] + b"\x00" + CONTENT[501:], "whole"),
    "short, no length": (CONTENT[:-1], "no length"),
    "longer": (CONTENT + b"\n", "whole"),
    "never ends": (CONTENT * 50, "no length"),
    "empty": (b"", "whole"),
    "stalls": (CONTENT, "stall"),
    "dies": (CONTENT, "die"),
    "truncates": (CONTENT, "truncate"),
    "404": (CONTENT, "missing"),
    "503": (CONTENT, "broken"),
}


@pytest.mark.parametrize("there", ["nothing", "an old file"])
@pytest.mark.parametrize("how", WRONG)
def test_75_a_download_that_is_not_the_file(server, cache, refuses, how, there):
    """Refused with everything one needs to get it by hand; what was there before stays."""
    server.content, server.manner = WRONG[how]
    old = b"an older revision"
    if there == "an old file":
        put(cache / PATH, old)
    came = ["bytes came", "sha256 [0-9a-f]{64}, expected"] if how not in ("404", "503") else []
    kept = ["What was at .* is still there"] if there == "an old file" else []
    refuses(
        fetch,
        None,
        OSError,
        server.url,
        SHA256,
        f"{len(CONTENT):,} bytes",
        str(cache / PATH),
        "GLM_MIRROR",
        *came,
        *kept,
        name=NAME,
    )
    if how in ("longer", "never ends"):  # is not waited for
        with pytest.raises(OSError, match="more was sent than the file has"):
            fetch(NAME)
    if there == "an old file":
        assert (cache / PATH).read_bytes() == old
    server.content, server.manner = CONTENT, "whole"
    assert fetch(NAME).read_bytes() == CONTENT


def test_75_no_server_at_all(server, cache, refuses, monkeypatch):
    row = RemoteFile(PATH, "http://127.0.0.1:9/x", SHA256, len(CONTENT))
    monkeypatch.setitem(FILES, NAME, row)
    refuses(fetch, None, OSError, "The download failed: .*refused", SHA256, name=NAME)


@pytest.mark.parametrize("place", ["cache", "mirror"])
def test_75_a_file_that_was_changed_on_disk(cache, refuses, tmp_path, server, place):
    file = put((cache if place == "cache" else tmp_path / "mirror") / PATH, CONTENT[:-1] + b"x")
    got = hashlib.sha256(file.read_bytes()).hexdigest()
    with glm.settings.override(offline=True, mirror=tmp_path / "mirror"):
        refuses(fetch, None, OSError, str(file), got, SHA256, "Remove it", name=NAME)
    assert server.requests == []


@pytest.mark.parametrize("content", [HTML, b"\n " + HTML.lower(), HTML + b" " * len(CONTENT)])
def test_76_a_web_page_with_status_200(server, cache, refuses, content):
    server.content = content
    refuses(
        fetch,
        None,
        OSError,
        SHA256,
        "What came is a web page: the download met a login, a proxy or an error page",
        name=NAME,
    )


def test_76_a_note_in_place_of_the_file(server, cache, refuses):
    server.content = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    refuses(fetch, None, OSError, "is a Git LFS pointer", name=NAME)


def test_77_offline_with_a_valid_cache(server, cache, monkeypatch):
    """No request, not even for its size or date; nor when the cache is asked online."""
    file = put(cache / PATH)
    for offline in ("1", "0"):
        monkeypatch.setenv("GLM_OFFLINE", offline)
        assert fetch(NAME) == file
    assert server.requests == []
    assert file.read_bytes() == CONTENT


def test_77_a_cache_is_never_deleted_because_the_network_is_down(server, cache):
    put(cache / PATH, b"of another version")
    for manner in ("missing", "broken", "die", "stall"):
        server.manner = manner
        with pytest.raises(OSError, match="is still there"):
            fetch(NAME)
    assert (cache / PATH).read_bytes() == b"of another version"
    assert len(server.requests) == 4
    with glm.settings.override(offline=True), pytest.raises(OSError, match="is not the published"):
        fetch(NAME)
    assert everything_in(cache) == [PATH]
    assert len(server.requests) == 4


def test_77_a_whole_model_without_a_request(server, cache, cells, embed, accepts):
    with glm.settings.override(offline=True):
        accepts(embed, cells)
        load("geneformer-tiny")
    assert server.requests == []


def test_78_offline_without_the_file(server, cache, refuses):
    with glm.settings.override(offline=True):
        refuses(
            fetch,
            None,
            OSError,
            server.url,
            SHA256,
            f"{len(CONTENT):,} bytes",
            f"put it at {cache / PATH}",
            "a folder that GLM_MIRROR names",
            "glm.settings.offline is set",
            name=NAME,
        )
    assert server.requests == []


def test_78_offline_without_the_model(cache, cells, refuses):
    """The message of the verb that was called; the object is as it was."""
    with glm.settings.override(offline=True):
        for model in ("geneformer-v2-104m", "geneformer-v1-10m"):
            refuses(
                glm.tl.embed,
                cells,
                OSError,
                "huggingface.co/ctheodoris/Geneformer/resolve/",
                rf"glm\.models\.prefetch\('{model}'\)",
                "geneformer-tiny",
                model=model,
            )


# ---- processes that are killed, processes at once, locks ---------------------------------------

CHILD = f"""
import sys, fcntl
def broken(*_):
    raise OSError(37, "No locks available")
fcntl.flock = fcntl.lockf = fcntl.fcntl = broken
from glm import _fetch
_fetch.FILES[{NAME!r}] = _fetch.RemoteFile({PATH!r}, sys.argv[1], {SHA256!r}, {len(CONTENT)})
print(_fetch.fetch({NAME!r}))
"""


def start_child(url: str, cache: Path) -> subprocess.Popen[str]:
    source = str(Path(glm.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url],
        env={**os.environ, "GLM_DATA_DIR": str(cache), "PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_79_killed_halfway(server, cache):
    """Nothing is unpacked, so the name is the marker: a file has it when it is whole."""
    server.manner = "wait"
    child = start_child(server.url, cache)
    assert server.halfway.wait(30)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    (remains,) = everything_in(cache)
    assert remains.endswith(".tmp")
    assert _fetch.local_path(NAME) is None
    server.manner = "whole"
    assert fetch(NAME).read_bytes() == CONTENT
    # The remains may be another process's that is still at work; a day later they are not.
    assert remains in everything_in(cache)
    os.utime(cache / remains, (0, time.time() - 2 * 24 * 3600))
    (cache / PATH).unlink()
    fetch(NAME)
    assert everything_in(cache) == [PATH]


@pytest.mark.skipif(os.name != "posix", reason="breaks fcntl")
def test_80_two_processes_at_once_without_locks(server, cache):
    server.manner = "wait"
    children = [start_child(server.url, cache) for _ in range(2)]
    deadline = time.monotonic() + 60
    while len(server.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    server.go_on.set()
    for child in children:
        out, errors = child.communicate(timeout=60)
        assert (child.returncode, out.strip()) == (0, str(cache / PATH)), errors
    assert (cache / PATH).read_bytes() == CONTENT
    assert everything_in(cache) == [PATH]
    assert len(server.requests) == 2


def test_81_stale_locks_are_nobodys_business(server, cache):
    """There is no lock to wait for: what others leave lying about is passed by, and kept."""
    left = [f"{PATH}.lock", f"geneformer/folder/.{NAME}.lock", f"{PATH}.part"]
    for name in left:
        put(cache / name, b"12345")
    started = time.monotonic()
    assert fetch(NAME).read_bytes() == CONTENT
    assert time.monotonic() - started < 5
    assert everything_in(cache) == sorted([PATH, *left])


# ---- disks ------------------------------------------------------------------------------------


def test_82_a_full_disk_is_noticed_first(server, cache, refuses, monkeypatch):
    usage = _fetch.shutil.disk_usage("/")._replace(free=len(CONTENT) - 1)
    monkeypatch.setattr(_fetch.shutil, "disk_usage", lambda _: usage)
    refuses(
        fetch,
        None,
        OSError,
        rf"no room for it: {len(CONTENT) - 1:,} bytes are free",
        "GLM_DATA_DIR",
        SHA256,
        name=NAME,
    )
    assert server.requests == []
    assert not cache.exists()


def test_82_a_disk_that_fills_up_on_the_way(server, cache, refuses, monkeypatch):
    def full(self, piece):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_download._Arriving, "write", full)
    refuses(fetch, None, OSError, "No space left on device", str(cache / PATH), name=NAME)
    assert everything_in(cache) == []


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take away the right to write below ``folder``, from the superuser too."""
    below = [folder, *(p for p in folder.rglob("*") if p.is_dir())]
    above = [p for p in folder.parents if p.stat().st_uid == os.geteuid() and p != p.parent]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (*below, *above)}
    is_root = os.geteuid() == 0
    try:
        for path in above:
            path.chmod(modes[path] | 0o011)
        for path in below:
            path.chmod(0o555)
        if is_root:
            os.seteuid(65_534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_83_a_read_only_cache(server, cache, make_model, monkeypatch):
    monkeypatch.setattr(_hashes, "WORTH_KEEPING", 0)
    file = put(cache / PATH)
    bundle = make_model().save(cache / "bundle")
    with read_only(cache):
        with pytest.raises(PermissionError):
            (cache / "anything").touch()
        assert [fetch(NAME) for _ in range(2)] == [file, file]
        assert load(bundle).spec.name == "small-v1"
        put_there = FILES[NAME].path.replace(NAME, "other.bin")
        FILES["other.bin"] = RemoteFile(put_there, server.url, SHA256, len(CONTENT))
        try:
            with pytest.raises(OSError, match=r"put it at .*Permission denied"):
                fetch("other.bin")
        finally:
            del FILES["other.bin"]
    assert server.requests == []
    assert not (cache / ".hashes.json").exists()


def test_83_a_cache_that_cannot_be(server, tmp_path, refuses):
    put(tmp_path / "file", b"")
    with glm.settings.override(data_dir=tmp_path / "file" / "cache", progress=False):
        refuses(fetch, None, OSError, "Not a directory|exists|cannot find", SHA256, name=NAME)
    assert server.requests == []


@pytest.mark.parametrize(
    "folder",
    ["Gène und Zelle/細胞", "with spaces and 'quotes'", "~/cache", "d" * 200 + "/" + "e" * 200],
    ids=["not ASCII", "spaces", "home", "long"],
)
def test_84_paths(server, tmp_path, monkeypatch, make_model, cells, accepts, folder):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = folder if folder.startswith("~") else tmp_path / folder
    real = Path(place).expanduser()
    monkeypatch.setenv("GLM_DATA_DIR", str(place))
    with glm.settings.override(progress=False):
        assert fetch(NAME) == real / PATH
        assert fetch(NAME).read_bytes() == CONTENT
    monkeypatch.setenv("GLM_DATA_DIR", str(tmp_path / "another"))
    monkeypatch.setenv("GLM_MIRROR", str(place))
    assert fetch(NAME) == real / PATH
    assert len(server.requests) == 1
    load("geneformer-tiny").save(real / "model")
    accepts(glm.tl.embed, cells, model=f"{place}/model")


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_85_shared_caches(server, cache, monkeypatch, umask, mode):
    """Group and others may read what the umask lets them: files, folders, memory and records."""
    monkeypatch.setattr(_hashes, "WORTH_KEEPING", 0)
    monkeypatch.setitem(FILES, NAME, RemoteFile(PATH, server.url))
    before = os.umask(umask)
    try:
        fetch(NAME, allow_unpinned=True)
    finally:
        os.umask(before)
    for name in (PATH, f"{PATH}.sha256", ".hashes.json"):
        assert stat.S_IMODE((cache / name).stat().st_mode) == mode, name
    folders = [cache, cache / "geneformer", cache / "geneformer" / "folder"]
    assert {stat.S_IMODE(f.stat().st_mode) for f in folders} == {0o777 & ~umask}


# ---- files that are traps ----------------------------------------------------------------------


@pytest.fixture
def checkpoint(make_model: Callable[..., Model], tmp_path: Path) -> Path:
    """A folder in the published layout, with its vocabulary."""
    model = make_model(v2=True)
    shape, folder = model.spec.shape, tmp_path / "checkpoint"
    folder.mkdir()
    save_safetensors(model.network, folder / "model.safetensors")
    (folder / "vocabulary.json").write_text(json.dumps(model.vocabulary.to_dict()))
    config = {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.n_layers,
        "num_attention_heads": shape.n_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.n_positions,
        "hidden_act": "relu",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def small_cells(checkpoint: Path, make_cells):
    adata = make_cells(load(checkpoint).vocabulary, 5)
    return adata[[0, 1, 2, 4]].copy()


def as_pytorch_file(folder: Path) -> Path:
    state = read_state(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def repack(path: Path, change: Callable[[zipfile.ZipFile], None], *, packed: bool = False) -> None:
    """Write a zip again, its entries as they are or packed, and something more."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        change(archive)


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
def test_86_an_archive_with_places_outside(checkpoint, small_cells, refuses, tmp_path, name):
    path = as_pytorch_file(checkpoint)
    repack(path, lambda archive: archive.writestr(name, b"evil"))
    said = "meant for a place outside"
    refuses(glm.tl.embed, small_cells, ValueError, said, str(path), model=checkpoint)
    assert not list(tmp_path.parent.rglob("evil"))


def test_86_an_archive_with_links(checkpoint, small_cells, tmp_path):
    """A link in it is an entry like any other: nothing is unpacked."""
    path = as_pytorch_file(checkpoint)

    def link(archive: zipfile.ZipFile) -> None:
        entry = zipfile.ZipInfo("archive/link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, str(tmp_path / "outside"))

    repack(path, link)
    before = everything_in(tmp_path)
    with contextlib.suppress(OSError):
        load(checkpoint)
    assert everything_in(tmp_path) == before


def test_86_an_archive_that_swells(checkpoint, small_cells, refuses):
    path = as_pytorch_file(checkpoint)
    repack(path, lambda a: a.writestr("archive/data/99", bytes(2**26)), packed=True)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    try:
        refuses(glm.tl.embed, small_cells, ValueError, "grows", "not read", model=checkpoint)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


class Trap:
    """Pickled as a call that makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["zip", "pickle", "inside"])
def test_87_weights_that_would_run_code(checkpoint, small_cells, refuses, tmp_path, form):
    path, marker = as_pytorch_file(checkpoint), tmp_path / "it-ran"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Trap(marker), protocol=2))
    elif form == "zip":
        torch.save(Trap(marker), path)
    else:
        torch.save({**read_state(path), "extra": Trap(marker)}, path)
    said = "objects other than tensors, which are never loaded"
    refuses(glm.tl.embed, small_cells, OSError, said, str(path), model=checkpoint)
    assert not marker.exists()


def test_88_a_checkpoint_that_names_a_callable(checkpoint, small_cells, refuses):
    """Not called, not even looked up: the module need not exist."""
    path = as_pytorch_file(checkpoint)
    path.write_bytes(b"\x80\x02cno_such_module\nrun\n.")
    refuses(glm.tl.embed, small_cells, OSError, "objects other than tensors", model=checkpoint)


def test_88_a_dictionary_that_names_a_callable(checkpoint, refuses, tmp_path):
    (checkpoint / "vocabulary.json").unlink()
    marker = tmp_path / "it-ran"
    content = pickle.dumps({"<pad>": Trap(marker)})
    for part in (
        "token_dictionary",
        "gene_median_dictionary",
        "gene_name_id_dict",
        "ensembl_mapping_dict",
    ):
        (checkpoint / f"{part}_own.pkl").write_bytes(content)
    refuses(load, None, ValueError, "Nothing in it was run", "mkdir", model=checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("change", ["missing", "extra", "renamed", "a whole layer"])
def test_89_tensors_that_do_not_fit(checkpoint, small_cells, refuses, change, file):
    """Each is listed, and none is ever made up."""
    state = read_state(checkpoint / "model.safetensors")
    key = "bert.encoder.layer.1.output.dense.bias"
    told = {
        "missing": ["1 missing", "encoder.layer.1.output.dense.bias"],
        "extra": ["1 unknown", "extra.weight"],
        "renamed": ["1 missing", "1 unknown", "encoder.layer.1.output.dense.offset"],
        "a whole layer": ["16 missing", "encoder.layer.2."],
    }[change]
    if change == "missing":
        del state[key]
    elif change == "extra":
        state["extra.weight"] = torch.ones(3)
    elif change == "renamed":
        state[key.replace("bias", "offset")] = state.pop(key)
    else:
        state = {name: tensor for name, tensor in state.items() if ".layer.2." not in name}
    (checkpoint / "model.safetensors").unlink()
    if file.endswith(".bin"):
        torch.save(state, checkpoint / file)
    else:
        save_safetensors(state, checkpoint / file)
    refuses(glm.tl.embed, small_cells, RuntimeError, *told, model=checkpoint)


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_90_another_shape(checkpoint, small_cells, refuses):
    change_json(checkpoint / "config.json", intermediate_size=32)
    refuses(
        glm.tl.embed,
        small_cells,
        RuntimeError,
        r"\(24, 16\), expected \(32, 16\)",
        model=checkpoint,
    )


def test_90_another_vocabulary(checkpoint, small_cells, refuses, make_vocabulary):
    content = make_vocabulary(59, v2=True).to_dict()
    (checkpoint / "vocabulary.json").write_text(json.dumps(content))
    refuses(glm.tl.embed, small_cells, RuntimeError, "of 64 tokens", "has 63 and", model=checkpoint)


def test_90_published_dictionaries_for_other_weights(
    checkpoint, small_cells, refuses, test_data, monkeypatch
):
    """The pair that is confused most: a model of 20,275 tokens and dictionaries of 25,426."""
    monkeypatch.setenv("GLM_MIRROR", str(test_data / "geneformer"))
    (checkpoint / "vocabulary.json").unlink()
    change_json(checkpoint / "config.json", vocab_size=25_426)
    found = r"\(64, 16\), expected \(25426, 16\)"
    refuses(load, None, RuntimeError, found, "belong together", model=checkpoint)
    for part in (test_data / "geneformer").glob("*_gc30M.pkl"):
        (checkpoint / part.name).symlink_to(part)
    change_json(checkpoint / "config.json", vocab_size=20_275)
    refuses(load, None, RuntimeError, "of 20,275 tokens", "has 25,426", model=checkpoint)


def test_90_a_bundle_of_another_version(make_model, small_cells, refuses, tmp_path):
    folder = make_model(v2=True).save(tmp_path / "bundle")
    change_json(folder / "config.json", format=2)
    refuses(glm.tl.embed, small_cells, RuntimeError, "of format 2;", "reads format 1", model=folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_91_weights_that_are_no_numbers(checkpoint, small_cells, refuses, value):
    state = read_state(checkpoint / "model.safetensors")
    state["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
    save_safetensors(state, checkpoint / "model.safetensors")
    refuses(
        glm.tl.embed,
        small_cells,
        RuntimeError,
        "1 tensors hold NaN or infinite",
        "layers.1.down.weight",
        model=checkpoint,
    )


def test_91_outputs_that_overflow(checkpoint, small_cells, accepts):
    """Finite weights whose products are not: the cells are counted, flagged and told of."""
    state = read_state(checkpoint / "model.safetensors")
    for norm in ("attention.output", "output"):
        state[f"bert.encoder.layer.1.{norm}.LayerNorm.weight"].fill_(3e38)
        state[f"bert.encoder.layer.1.{norm}.LayerNorm.bias"].fill_(3e38)
    save_safetensors(state, checkpoint / "model.safetensors")
    unusable = range(small_cells.n_obs)
    adata = accepts(glm.tl.embed, small_cells, unusable=unusable, model=checkpoint)
    assert adata.uns["X_geneformer"]["n_cells_unusable"] == small_cells.n_obs


def test_92_converted_weights(checkpoint, small_cells, tmp_path):
    """Through a PyTorch file and through a bundle: the same vectors to the last bit."""
    original = glm.tl.embed(small_cells, model=checkpoint, copy=True).obsm["X_geneformer"]
    model = load(checkpoint)
    as_pytorch_file(checkpoint)
    half = model.save(tmp_path / "half", half=True)
    for folder in (checkpoint, model.save(tmp_path / "bundle")):
        got = glm.tl.embed(small_cells, model=folder, copy=True).obsm["X_geneformer"]
        np.testing.assert_array_equal(got, original)
    for name, tensor in to_published(load(half).network).items():
        assert torch.equal(tensor, to_published(model.network)[name].half().float()), name


HEADERS = {
    "a header of exabytes": (2**60, b"{}"),
    "a header longer than the file": (10_000, b"{}"),
    "a tensor of terabytes": (
        None,
        b'{"a": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}',
    ),
    "a size that wraps around": (
        None,
        b'{"a": {"dtype": "F32", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}}',
    ),
    "offsets backwards": (
        None,
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]}}',
    ),
    "nested without end": (None, b'{"a":' * 20_000),
    "no JSON": (None, b"these are only words"),
}


@pytest.mark.parametrize("how", HEADERS)
def test_93_hostile_headers(checkpoint, small_cells, refuses, how):
    """Refused before any memory is asked for: what is said of sizes is held to the file's own."""
    length, header = HEADERS[how]
    path = checkpoint / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    resource = pytest.importorskip("resource")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuses(
        glm.tl.embed,
        small_cells,
        OSError,
        str(path),
        "not a complete safetensors file",
        model=checkpoint,
    )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert grown < 100_000  # kB
