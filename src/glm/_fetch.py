"""The way to a published file: mirror, cache, network; held to its hash wherever it was found.

There is no lock. Every download has a name of its own beside the target and takes the target's name
when it is whole, so that two processes at once fetch twice and end with one file. What lies in the
cache is replaced by the published file at most, never by anything else and never by nothing.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from ._atomic import replacing
from ._download import Refused, receive
from ._files import FILES, RemoteFile
from ._hashes import digest_once, remember, sha256_of
from ._settings import logger, settings

__all__ = ["FILES", "RemoteFile", "fetch", "local_path", "pin_of", "sha256_of"]

_SPARE = 16 * 2**20  # bytes to leave free on the disk
_FORSAKEN = 24 * 3600  # seconds after which a download that nothing was added to is a dead one's


def local_path(name: str) -> Path | None:
    """Where ``name`` lies on this machine: mirror, cache or ``None``. Opens no connection."""
    file = FILES[name]
    if settings.mirror is not None:
        # Laid out as the cache, as the repository, or flat where the bare name says enough.
        places = [file.path, file.path.partition("/")[2], *([name] if "/" not in name else [])]
        for place in places:
            if (settings.mirror / place).is_file():
                return settings.mirror / place
    cached = settings.data_dir / file.path
    return cached if cached.is_file() else None


def fetch(name: str, *, allow_unpinned: bool = False) -> Path:
    """Return the path of a published file, held to its hash; download it if need be.

    Parameters
    ----------
    name
        A name of the table.
    allow_unpinned
        Take a file of which no hash is known. Its hash is recorded beside it the first time, and
        every later call holds it to that record.

    Raises
    ------
    OSError
        If the file cannot be had (offline, no connection, no room) or is not the published one.
        A file that is already there stays.
    """
    file, found, pin = FILES[name], local_path(name), pin_of(name)
    target = settings.data_dir / file.path
    if pin is None and not allow_unpinned:
        raise OSError(_ask_for_consent(file))
    if found is not None:
        got = digest_once(found, pin[0] if pin else "sha256")
        if pin is None:
            return _record(found, got, file)
        if got == pin[1]:
            remember(found, *pin)
            return found
        if settings.offline or found != target:
            raise OSError(_is_another(found, got, file, pin))
    elif settings.offline:
        raise OSError(f"{_by_hand(file, pin)} Nothing was fetched: glm.settings.offline is set.")
    return _download(file, pin, target)


def pin_of(name: str) -> tuple[str, str] | None:
    """Kind and value of the hash that a file is held to: the published one, or the one recorded."""
    file, found = FILES[name], local_path(name)
    if file.pin is not None:
        return file.pin
    for place in (settings.data_dir / file.path, *([found] if found else [])):
        if _record_of(place).is_file():
            content = _record_of(place).read_text(encoding="utf-8", errors="replace").split()
            if content and len(content[0]) == 64:
                return "sha256", content[0]
            raise OSError(
                f"{_record_of(place)} does not hold the sha256 that was recorded when "
                f"{file.name} was first fetched. Put it back, or delete it to record it anew."
            )
    return None


# ---- the network ---------------------------------------------------------------------------------


def _download(file: RemoteFile, pin: tuple[str, str] | None, target: Path) -> Path:
    there = target.is_file()
    logger.info("fetching %s (%s)", file.url, _size(file))
    try:
        _check_room(file, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        with replacing(target) as beside:
            got = receive(file, beside, *(pin or ("sha256", "")))
    except (OSError, Refused) as error:
        kept = f" What was at {target} before is still there." if there else ""
        raise OSError(f"{_by_hand(file, pin)} The download failed: {error}{kept}") from error
    if pin is None:
        return _record(target, got, file)
    remember(target, pin[0], got)
    return target


def _check_room(file: RemoteFile, target: Path) -> None:
    if file.n_bytes is None:
        return
    place = next(folder for folder in target.parents if folder.exists())
    free = shutil.disk_usage(place).free
    if free < file.n_bytes + _SPARE:
        raise OSError(
            f"there is no room for it: {free:,} bytes are free at {place}. Free some, or set "
            "GLM_DATA_DIR to a folder on another disk."
        )


def _sweep(target: Path) -> None:
    """Delete what killed processes left of this file; a living one adds to its own all the time."""
    for remains in target.parent.glob(f".{target.name}.*.tmp"):
        if time.time() - remains.stat().st_mtime > _FORSAKEN:
            remains.unlink(missing_ok=True)


# ---- files of which no hash is known -------------------------------------------------------------


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _record(path: Path, sha256: str, file: RemoteFile) -> Path:
    record = _record_of(settings.data_dir / file.path)
    record.parent.mkdir(parents=True, exist_ok=True)
    with replacing(record) as beside:
        beside.write_text(f"{sha256}  {file.name}\n", encoding="utf-8")
    logger.info("%s is held to the sha256 %s from now on (%s)", path, sha256, record)
    remember(path, "sha256", sha256)
    return path


# ---- wording -------------------------------------------------------------------------------------


def _size(file: RemoteFile) -> str:
    return "size not known" if file.n_bytes is None else f"{file.n_bytes:,} bytes"


def _hash(pin: tuple[str, str] | None) -> str:
    return "no hash known" if pin is None else " ".join(pin)


def _by_hand(file: RemoteFile, pin: tuple[str, str] | None) -> str:
    return (
        f"{file.name} ({_size(file)}) is not on this machine. Fetch {file.url} ({_hash(pin)}) and "
        f"put it at {settings.data_dir / file.path}, or in a folder that GLM_MIRROR names."
    )


def _is_another(path: Path, got: str, file: RemoteFile, pin: tuple[str, str]) -> str:
    published = "published" if file.pin else "first recorded"
    return (
        f"{path} is not the {published} {file.name}: its {pin[0]} is {got} "
        f"({path.stat().st_size:,} bytes), expected {pin[1]} ({_size(file)}). Remove it and fetch "
        f"{file.url} again."
    )


def _ask_for_consent(file: RemoteFile) -> str:
    return (
        f"{file.name} ({_size(file)}) is published at {file.url}, but no hash of it is known here, "
        "so it is not used unasked. If you trust that place, glm.models.prefetch(..., "
        "allow_unpinned=True) takes it once, records the hash of what came, and holds every later "
        f"load to that; also of a file that was put at {settings.data_dir / file.path}, or in a "
        "folder that GLM_MIRROR names, by hand."
    )
