"""Published files: one table of what exists where, and the way to it (mirror, cache, network)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ._settings import logger, settings

_GENEFORMER = (
    "https://huggingface.co/ctheodoris/Geneformer/resolve/04c2b2e84da7c0f385c3f9ad8f3ec24bab6650e5"
)


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its path in the cache, where it comes from, and what it must be."""

    path: str
    url: str
    sha256: str
    n_bytes: int
    licence: str = "Apache-2.0"


def _geneformer(path: str, sha256: str, n_bytes: int) -> RemoteFile:
    return RemoteFile(f"geneformer/{path}", f"{_GENEFORMER}/{path}", sha256, n_bytes)


_V2 = "geneformer"
_V1 = "geneformer/gene_dictionaries_30m"

FILES: dict[str, RemoteFile] = {
    file.path.rsplit("/", 1)[-1] if file.path.endswith(".pkl") else file.path: file
    for file in (
        _geneformer(
            "Geneformer-V1-10M/model.safetensors",
            "a5e33a757431643b3697de7ef6127950cdc49e06e58d4266b3a3ab191b683f14",
            41_183_536,
        ),
        _geneformer(
            "Geneformer-V2-104M/model.safetensors",
            "fff5cba29ddd8792991fa77b4872246fbe548a178cebda3775cdc72b67780e7f",
            417_571_156,
        ),
        _geneformer(
            "Geneformer-V2-316M/model.safetensors",
            "965ceccea81953d362081ef3843560a0e4fef88d396c28017881f1e94b1246f3",
            1_265_455_076,
        ),
        _geneformer(
            f"{_V2}/token_dictionary_gc104M.pkl",
            "67c445f4385127adfc48dcc072320cd65d6822829bf27dd38070e6e787bc597f",
            425_590,
        ),
        _geneformer(
            f"{_V2}/gene_median_dictionary_gc104M.pkl",
            "a51c53f6a771d64508dfaf61529df70e394c53bd20856926117ae5d641a24bf5",
            1_512_661,
        ),
        _geneformer(
            f"{_V2}/gene_name_id_dict_gc104M.pkl",
            "fabfa0c2f49c598c59ae432a32c3499a5908c033756c663b5e0cddf58deea8e1",
            1_660_882,
        ),
        _geneformer(
            f"{_V2}/ensembl_mapping_dict_gc104M.pkl",
            "0819bcbd869cfa14279449b037eb9ed1d09a91310e77bd1a19d927465030e95c",
            3_957_652,
        ),
        _geneformer(
            f"{_V1}/token_dictionary_gc30M.pkl",
            "ab9dc40973fa5224d77b793e2fd114cacf3d08423ed9c4c49caf0ba9c7f218f1",
            788_424,
        ),
        _geneformer(
            f"{_V1}/gene_median_dictionary_gc30M.pkl",
            "b3b589bb5ec75040d05fc44dd6bf0184cf87f3c362cf158d196a6ed3b7fe5f39",
            940_965,
        ),
        _geneformer(
            f"{_V1}/gene_name_id_dict_gc30M.pkl",
            "55e67962e79c0039a6c32d43c5c99f38e51964bbcfa32f736150ee1e285c438c",
            1_117_117,
        ),
        _geneformer(
            f"{_V1}/ensembl_mapping_dict_gc30M.pkl",
            "eac0fb0b3007267871b6305ac0003ceba19d4f28d85686cb9067ecf142787869",
            584_125,
        ),
    )
}
"""Name → file. Hashes are those of the repository's large-file pointers at the pinned revision."""


def local_path(name: str) -> Path | None:
    """Where ``name`` lies on this machine: mirror, cache or ``None``. Opens no connection."""
    file = FILES[name]
    if settings.mirror is not None:
        inner = file.path.removeprefix("geneformer/")
        for place in (file.path, inner, Path(file.path).name if name.endswith(".pkl") else inner):
            if (settings.mirror / place).is_file():
                return settings.mirror / place
    cached = settings.data_dir / file.path
    return cached if cached.is_file() else None


def fetch(name: str) -> Path:
    """Return the path of a published file, held to its hash; download it if need be.

    Raises
    ------
    OSError
        If the file cannot be had (offline, no connection) or is not the published one. A file
        that is already there is never deleted.
    """
    file = FILES[name]
    found = local_path(name)
    if found is None:
        if settings.offline:
            raise OSError(f"{_by_hand(file)} Nothing was fetched: glm.settings.offline is set.")
        found = _download(file)
    _check_hash(found, file)
    return found


def _by_hand(file: RemoteFile) -> str:
    return (
        f"{Path(file.path).name} ({file.n_bytes:,} bytes) is not on this machine. Fetch "
        f"{file.url} (sha256 {file.sha256}) and put it at {settings.data_dir / file.path}, or in "
        "a folder that GLM_MIRROR names."
    )


def _download(file: RemoteFile) -> Path:
    import pooch

    target = settings.data_dir / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s (%s bytes)", file.url, f"{file.n_bytes:,}")
    try:
        pooch.retrieve(
            file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            progressbar=settings.progress is not False,
        )
    except Exception as error:
        raise OSError(f"{_by_hand(file)} The download failed: {error}") from error
    return target


def _check_hash(path: Path, file: RemoteFile) -> None:
    got = sha256_of(path)
    if got != file.sha256:
        raise OSError(
            f"{path} is not the published {Path(file.path).name}: its sha256 is {got} "
            f"({os.path.getsize(path):,} bytes), expected {file.sha256} ({file.n_bytes:,} bytes). "
            f"Remove it and fetch {file.url} again."
        )


def sha256_of(path: Path | str) -> str:
    """Hash of a file's content, as hexadecimal text."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
