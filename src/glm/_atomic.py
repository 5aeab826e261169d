"""Files that are at every moment either the old one or the new one, whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def name_beside(path: Path, suffix: str = ".tmp") -> Path:
    """A name in the same folder that no other process and no other call takes."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{suffix}")


@contextmanager
def replacing(path: Path, *, keep: bool = False, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a path to write to, which takes the place of ``path`` once the block is through.

    Where the block fails, nothing stays of what it wrote, and ``path`` is as it was. With ``keep``
    a file that is there stays, also where another process made it in the meantime. ``suffix`` is
    for writers that go by how a name ends.
    """
    temporary = name_beside(path, suffix)
    try:
        yield temporary
        with open(temporary, "rb+") as file:  # on disk before it gets the name
            os.fsync(file.fileno())
        if not keep or not _add_name(temporary, path):
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _add_name(file: Path, path: Path) -> bool:
    """Whether ``path`` names a file now: ``file``, unless it did before."""
    try:
        os.link(file, path)
    except OSError:  # it is taken, or this file system has no links
        return path.exists()
    return True
