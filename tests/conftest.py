"""What every test gets: an empty cache, no network, two threads, matplotlib without a screen."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anndata import AnnData

    from glm.models import GeneVocabulary, Model

ROOT = Path(__file__).resolve().parents[1]

# Set before anything imports torch, numba or matplotlib; child processes inherit them. All three to
# the same number: torch takes MKL's, whatever OMP's says.
_threads = os.environ.get("OMP_NUM_THREADS", str(min(2, os.cpu_count() or 1)))
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_variable, _threads)
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


# ---- a small vocabulary, a small random model of it, and cells that both know ------------------


@pytest.fixture(scope="session")
def make_vocabulary() -> Callable[..., GeneVocabulary]:
    """Make a vocabulary of made-up genes, with ``<cls>`` and ``<eos>`` or without."""

    def make(n_genes: int = 60, *, v2: bool = False, context: int = 32) -> GeneVocabulary:
        import numpy as np

        from glm.models import GeneVocabulary

        special = {"pad": 0, "mask": 1} | ({"cls": 2, "eos": 3} if v2 else {})
        ids = tuple(f"ENSG{7 * i + 11:011d}" for i in range(n_genes))
        return GeneVocabulary(
            name="small-v2" if v2 else "small-v1",
            ids=ids,
            tokens=np.arange(len(special), len(special) + n_genes, dtype=np.int32),
            medians=np.random.default_rng(5).lognormal(0.5, 1.0, n_genes),
            special=special,
            context=context,
            symbols={f"GENE{i}": gene for i, gene in enumerate(ids)},
            aliases={},
        )

    return make


@pytest.fixture(scope="session")
def make_model(make_vocabulary: Callable[..., GeneVocabulary]) -> Callable[..., Model]:
    """Make a model of random weights, biases and norms included, and its small vocabulary."""

    def make(*, v2: bool = False, n_genes: int = 60, seed: int = 0, **shape: float) -> Model:
        import torch

        from glm.models import BertConfig, Model, ModelSpec
        from glm.models.bert import MaskedLM

        vocabulary = make_vocabulary(n_genes, v2=v2)
        sizes = {"hidden_size": 16, "n_layers": 3, "n_heads": 2, "intermediate_size": 24}
        config = BertConfig(
            vocab_size=len(vocabulary), n_positions=vocabulary.context, **{**sizes, **shape}
        )
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            network = MaskedLM(config)
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        spec = ModelSpec(
            name=vocabulary.name,
            system="geneformer",
            shape=config,
            pooling="cls" if v2 else "mean",
            tier="local",
            licence="none",
            source="tests/conftest.py",
        )
        return Model(spec, vocabulary, network.eval())

    return make


@pytest.fixture(scope="session")
def make_cells() -> Callable[..., AnnData]:
    """Make counts of a vocabulary's genes: cells of all lengths, some longer than its context.

    Cell 3 has no count, and none of the vocabulary's genes if ``outside`` adds columns of others.
    """

    def make(
        vocabulary: GeneVocabulary, n_cells: int = 12, *, outside: int = 0, seed: int = 0
    ) -> AnnData:
        import numpy as np
        import pandas as pd
        from anndata import AnnData
        from scipy.sparse import csr_matrix

        rng = np.random.default_rng(seed)
        n_genes = len(vocabulary.ids) + outside
        names = [*vocabulary.ids, *(f"ENSG9{i:010d}" for i in range(outside))]
        order = rng.permutation(n_genes)
        share = np.linspace(0.05, 1.0, n_cells)[:, None]
        counts = rng.poisson(4.0, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < share)
        counts[:, 0] += 1  # no cell but the third is empty
        if n_cells > 3:
            counts[3, : len(vocabulary.ids)] = 0
        counts = counts[:, order].astype(np.float32)
        obs = pd.DataFrame(index=[f"cell{i}" for i in range(n_cells)])
        return AnnData(csr_matrix(counts), obs, pd.DataFrame(index=[names[i] for i in order]))

    return make


# ---- files of sequences, written by other means than those that read them ------------------------


@pytest.fixture(scope="session")
def write_two_bit() -> Callable[..., Path]:
    """Write texts as a 2bit file in either byte order, as version 0 or 1: letter by letter."""
    import re
    import struct

    def blocks(order: str, text: str, letters: str) -> bytes:
        runs = [(m.start(), m.end() - m.start()) for m in re.finditer(f"[{letters}]+", text)]
        columns = [start for start, _ in runs] + [size for _, size in runs]
        return struct.pack(f"{order}{1 + len(columns)}I", len(runs), *columns)

    def pack(text: str) -> bytes:
        digits = text.upper().translate(str.maketrans("TCAGN", "01230"))
        digits += "0" * (-len(digits) % 4)
        return bytes(int(digits[i : i + 4], 4) for i in range(0, len(digits), 4))

    def write(path: Path, sequences: dict[str, str], *, order: str = "<", version: int = 0) -> Path:
        place = "Q" if version else "I"
        records = [
            struct.pack(f"{order}I", len(text))
            + blocks(order, text, "Nn")
            + blocks(order, text, "a-z")
            + struct.pack(f"{order}I", 0)
            + pack(text)
            for text in sequences.values()
        ]
        at = 16 + sum(1 + len(name) + struct.calcsize(place) for name in sequences)
        content = struct.pack(f"{order}4I", 0x1A412743, version, len(sequences), 0)
        for name, record in zip(sequences, records, strict=True):
            content += bytes([len(name)]) + name.encode() + struct.pack(f"{order}{place}", at)
            at += len(record)
        path.write_bytes(content + b"".join(records))
        return path

    return write


@pytest.fixture(scope="session")
def write_fasta() -> Callable[..., Path]:
    """Write texts as a FASTA file; a name that ends with .gz is compressed with bgzip."""

    def write(
        path: Path, sequences: dict[str, str], *, width: int = 60, line_end: str = "\n"
    ) -> Path:
        lines = []
        for name, text in sequences.items():
            lines.append(f">{name} made up")
            lines += [text[i : i + width] for i in range(0, len(text), width)]
        content = "".join(line + line_end for line in lines).encode()
        if path.suffix == ".gz":
            from Bio import bgzf

            with bgzf.open(str(path), "wb") as file:
                file.write(content)
        else:
            path.write_bytes(content)
        return path

    return write


# ---- models of DNA ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def made_up_merges() -> Callable[..., list[tuple[str, str]]]:
    """Make merges of neighbours that are there, none of them making a piece twice."""

    def make(n: int = 40, *, longest: int = 16, seed: int = 0) -> list[tuple[str, str]]:
        import numpy as np

        rng = np.random.default_rng(seed)
        pieces, merges = list("ACGT"), []
        while len(merges) < n:
            left, right = (pieces[i] for i in rng.integers(0, len(pieces), 2))
            if len(left + right) <= longest and left + right not in pieces:
                merges.append((left, right))
                pieces.append(left + right)
        return merges

    return make


@pytest.fixture(scope="session")
def make_dna_model(made_up_merges: Callable[..., list[tuple[str, str]]]) -> Callable[..., Model]:
    """Make a small model of random weights that reads k-mers (``"dnabert"``) or byte pairs."""

    def make(system: str = "dnabert", *, k: int = 3, seed: int = 0, **shape: float) -> Model:
        import torch

        from glm.models import BertConfig, KmerVocabulary, Model, ModelSpec, PairVocabulary
        from glm.models.bert import MaskedLM

        context = int(shape.pop("n_positions", 32))
        if system == "dnabert":
            vocabulary = KmerVocabulary(k, context=context)
        else:
            vocabulary = PairVocabulary.from_merges("small", made_up_merges(), context=context)
        sizes = {"hidden_size": 16, "n_layers": 3, "n_heads": 2, "intermediate_size": 24}
        config = BertConfig(
            vocab_size=len(vocabulary),
            n_positions=context,
            **{"activation": "gelu", **sizes, **shape},
        )
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            network = MaskedLM(config)
            for parameter in network.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        spec = ModelSpec(
            name=f"small-{system}",
            system=system,
            shape=config,
            pooling="cls",
            hidden_layer="last",
            tier="local",
            licence="none",
            source="tests/conftest.py",
        )
        return Model(spec, vocabulary, network.eval())

    return make


def _track_table(rows: list[tuple[str, str, str, str, int]]):
    """identifier, assay, sample, aggregation, partner on the other strand."""
    import pandas as pd

    names = ["identifier", "assay", "sample", "aggregation", "strand_pair"]
    table = pd.DataFrame(rows, columns=names)
    table.insert(4, "scale", 1.0)
    table.insert(5, "clip", 384.0)
    table.index.name = "index"
    return table


@pytest.fixture(scope="session")
def track_model():
    """A small Enformer with random weights (norms and attention too), windows of 4,096 bp.

    Heads human (6 tracks, the first two a pair of strands) and mouse (3); 24 bins are predicted.
    """
    import torch

    from glm.models.enformer import Enformer, EnformerConfig
    from glm.models.track_model import TrackModel, TrackSpec

    tables = {
        "human": _track_table(
            [
                ("CN1+", "CAGE", "cardiac fibroblast", "sum", 1),
                ("CN1-", "CAGE", "cardiac fibroblast", "sum", 0),
                ("EN2", "DNASE", "heart left ventricle", "mean", 2),
                ("EN3", "DNASE", "K562", "mean", 3),
                ("EN4", "CHIP", "H3K27ac/K562", "mean", 4),
                ("EN5", "CHIP", "H3K27ac/K562", "mean", 5),
            ]
        ),
        "mouse": _track_table(
            [
                ("MM1", "DNASE", "liver", "mean", 0),
                ("MM2", "CAGE", "cardiac myocyte", "sum", 1),
                ("MM3", "CHIP", "CTCF/liver", "mean", 2),
            ]
        ),
    }
    config = EnformerConfig(
        heads={head: len(table) for head, table in tables.items()},
        channels=48,
        depth=2,
        n_heads=2,
        key_size=8,
        crop=4,
        channel_step=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Enformer(config).eval()
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name.endswith("running_var"):
                    tensor.uniform_(0.5, 2.0)
                elif name.startswith("heads.") and name.endswith("weight"):
                    tensor.mul_(30)  # so that bins differ visibly
                elif name.endswith(("running_mean", "bias", "attention.output.weight")):
                    tensor.normal_(0.0, 0.2)
            read = network.embed(torch.randint(0, 4, (1, 8_192), dtype=torch.uint8))[0]
            for head in network.heads.values():  # around 1, for any sequence
                head.bias.copy_(0.5 - (read @ head.weight.T).mean(0))
    spec = TrackSpec("small-tracks", config, window_bp=4_096, tier="local")
    return TrackModel(spec, network.requires_grad_(False), tables)


@pytest.fixture(scope="session")
def make_track_windows():
    """Make windows whose tracks follow their bases: GC of a bin, and more on one strand.

    Tracks 0 and 1 are of a pair of strands (shares of G and of C), the others of GC, each of its
    size. On chromosomes 1, 2, ... far from each other, in folds by turns.
    """
    import numpy as np
    import pandas as pd

    from glm import Regions
    from glm.train import TrackWindows

    def make(
        n: int = 6,
        *,
        head: str = "human",
        n_tracks: int = 4,
        window_bp: int = 4_096,
        crop: int = 4,
        seed: int = 0,
        dtype: str = "float32",
    ) -> TrackWindows:
        rng = np.random.default_rng(seed)
        gc = np.repeat(rng.random((n, window_bp // 128)), 128, axis=1)
        codes = np.where(
            rng.random(gc.shape) < gc, rng.choice([1, 2], gc.shape), rng.choice([0, 3], gc.shape)
        ).astype(np.uint8)
        shares = [
            (codes == base).reshape(n, -1, 128).mean(axis=2)[:, crop : window_bp // 128 - crop]
            for base in (2, 1)
        ]
        both = shares[0] + shares[1]
        tracks = [*shares, *(both * (1 + i) for i in range(n_tracks - 2))]
        table = pd.DataFrame(
            {
                "identifier": [f"{head}-{i}" for i in range(n_tracks)],
                "assay": ["CAGE", "CAGE", *["DNASE"] * (n_tracks - 2)],
                "aggregation": "mean",
                "strand_pair": [1, 0, *range(2, n_tracks)],
            }
        )
        start = np.arange(n) * 100_000 + seed * 10_000
        chrom = [f"chr{1 + i % 3}" for i in range(n)]
        return TrackWindows(
            codes,
            np.stack(tracks, axis=2).astype(dtype),
            table,
            head,
            Regions.of(chrom, start, start + window_bp),
            np.array([("train", "train", "valid", "test")[i % 4] for i in range(n)]),
            "hg38" if head == "human" else "mm10",
        )

    return make
