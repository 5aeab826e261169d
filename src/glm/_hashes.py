"""Hashes of files, computed once for a file that does not change.

What was computed is remembered by size and times of change: in this process, and for large files
of the cache and the mirrors in a small file of the cache: not every process reads 1.3 GB again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ._atomic import replacing
from ._settings import logger, settings

MEMORY = ".hashes.json"
WORTH_KEEPING = 2**24  # bytes; hashing fewer takes no longer than keeping book of them

_Mark = tuple[int, int, int, str, str]  # size, two times of change in ns, kind of hash, value
_seen: dict[str, _Mark] = {}


def sha256_of(path: Path | str) -> str:
    """Hash of a file's content, as hexadecimal text."""
    return digest(path, "sha256")


def digest(path: Path | str, kind: str) -> str:
    """Read the whole file and compute its ``"sha256"`` or ``"md5"``."""
    with open(path, "rb") as stream:
        # MD5 tells a cut file from a whole one here; it guards nothing.
        return hashlib.file_digest(
            stream, lambda: hashlib.new(kind, usedforsecurity=False)
        ).hexdigest()


def digest_once(path: Path, kind: str) -> str:
    """As :func:`digest`, without reading a file again whose size and times are those remembered."""
    now = _size_and_times(path)
    for mark in (_seen.get(str(path)), _on_disk().get(_key(path))):
        if mark is not None and mark[:4] == (*now, kind):
            return mark[4]
    value = digest(path, kind)
    if _size_and_times(path) == now:  # else it is being written
        _seen[str(path)] = (*now, kind, value)
    return value


def remember(path: Path, kind: str, value: str) -> None:
    """Keep a hash that was found right for later processes, where the cache can be written."""
    mark = (*_size_and_times(path), kind, value)
    _seen[str(path)] = mark
    if mark[0] < WORTH_KEEPING:
        return
    known = _on_disk()
    if known.get(_key(path)) == mark:
        return
    content = {key: list(value) for key, value in {**known, _key(path): mark}.items()}
    target = settings.data_dir / MEMORY
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as beside:
            beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:  # a cache that is read-only is a cache
        logger.debug("%s cannot be written (%s): hashes are computed again", target, error)


def _size_and_times(path: Path) -> tuple[int, int, int]:
    # Programs that copy a file's time set the first one; nothing sets the second one back.
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _key(path: Path) -> str:
    """Path within the cache, which may be moved as a whole, or else the whole path."""
    path, cache = Path(os.path.abspath(path)), Path(os.path.abspath(settings.data_dir))
    return path.relative_to(cache).as_posix() if path.is_relative_to(cache) else str(path)


def _on_disk() -> dict[str, _Mark]:
    """What earlier processes remembered. A damaged file is as good as none."""
    try:
        content = json.loads((settings.data_dir / MEMORY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        key: (value[0], value[1], value[2], value[3], value[4])
        for key, value in content.items()
        if isinstance(value, list) and [type(part) for part in value] == [int, int, int, str, str]
    }
