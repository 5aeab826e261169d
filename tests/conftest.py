"""What every test gets: an empty cache, no network, two threads, matplotlib without a screen."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Set before anything imports torch, numba or matplotlib; child processes inherit them.
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, str(min(2, os.cpu_count() or 1)))
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"  # the oracles are built from configurations, never fetched


class NetworkForbiddenError(RuntimeError):
    """Not an OSError, so that code which handles a network that is down cannot hide it."""


def _is_local(host: object) -> bool:
    if host in (None, "", b"", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _refuse_unless_local(host: object) -> None:
    if not _is_local(host):
        raise NetworkForbiddenError(
            f"A test reached for {host!r}. Tests run offline: use a file, or a loopback server."
        )


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Let sockets reach this machine only."""
    real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}
    real_lookup = socket.getaddrinfo

    def guarded(name: str):
        def call(self: socket.socket, address):
            if self.family in (socket.AF_INET, socket.AF_INET6):
                _refuse_unless_local(address[0])
            return real[name](self, address)

        return call

    def lookup(host, *args, **kwargs):
        _refuse_unless_local(host)
        return real_lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in real:
            patch.setattr(socket.socket, name, guarded(name))
        patch.setattr(socket, "getaddrinfo", lookup)
        yield


@pytest.fixture(scope="session", autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the user's downloads, mirrors and offline switch out of the tests."""
    cache = tmp_path_factory.mktemp("glm-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLM_DATA_DIR", str(cache))
        patch.delenv("GLM_MIRROR", raising=False)
        patch.delenv("GLM_OFFLINE", raising=False)
        yield cache


@pytest.fixture(autouse=True)
def _matplotlib_stays_agg() -> Iterator[None]:
    """Close a test's figures, and fail the test that switched the backend."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
        backend = pyplot.get_backend().lower()
        assert backend == "agg", f"the test left matplotlib on {backend!r}"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real cells, genomes and oracles, which are not part of the repository."""
    named = os.environ.get("GLM_TEST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: point GLM_TEST_DATA at a copy to run this test")
    return folder
