"""Settings: where files are kept, whether the network may be used, progress, threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("glm")
logger.addHandler(logging.NullHandler())


class GlmWarning(UserWarning):
    """A warning raised by ``glm`` about the user's data or the way a result should be read."""


class Settings:
    """What holds for every call. A value that was not set follows the environment at each use.

    Attributes
    ----------
    data_dir
        Folder of downloaded files (``GLM_DATA_DIR``, else ``glm`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``).
    mirror
        A folder in which published files are looked for by name before anything is fetched
        (``GLM_MIRROR``), or ``None``.
    offline
        Never open a connection (``GLM_OFFLINE=1``).
    progress
        Progress bars: ``True``, ``False``, or ``None`` for "where somebody sees them move".
    n_threads
        Threads of the compiled encoders (default: the processors this process may use). Torch keeps
        its own number.

    Setting one of them to ``None`` takes the setting back.

    Examples
    --------
    >>> import glm
    >>> with glm.settings.override(progress=False, n_threads=1):
    ...     glm.settings.n_threads
    1
    """

    _set: dict[str, Any]
    _NAMES = ("data_dir", "mirror", "offline", "progress", "n_threads")

    def __init__(self) -> None:
        object.__setattr__(self, "_set", {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._NAMES:
            raise AttributeError(f"glm.settings has no {name!r}; it has {', '.join(self._NAMES)}.")
        if name == "n_threads" and value is not None and int(value) < 1:
            raise ValueError(f"n_threads is {value}; expected a whole number of at least 1.")
        self._set[name] = value

    def _get(self, name: str, variable: str = "") -> Any:
        value = self._set.get(name)
        return value if value is not None else os.environ.get(variable) or None

    @property
    def data_dir(self) -> Path:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(self._get("data_dir", "GLM_DATA_DIR") or Path(base) / "glm").expanduser()

    @property
    def mirror(self) -> Path | None:
        folder = self._get("mirror", "GLM_MIRROR")
        return None if folder is None else Path(folder).expanduser()

    @property
    def offline(self) -> bool:
        value = self._get("offline", "GLM_OFFLINE")
        if isinstance(value, str):
            return value.strip().lower() not in {"", "0", "false", "no"}
        return bool(value)

    @property
    def progress(self) -> bool | None:
        return self._set.get("progress")

    @property
    def n_threads(self) -> int:
        value = self._set.get("n_threads")
        return _n_processors() if value is None else int(value)

    @contextmanager
    def override(self, **changes: Any) -> Iterator[Settings]:
        """Change settings inside a ``with`` block and put the old ones back after it."""
        before = dict(self._set)
        try:
            for name, value in changes.items():
                setattr(self, name, value)
            yield self
        finally:
            self._set.clear()
            self._set.update(before)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._NAMES)
        return f"glm.settings({values})"


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


settings = Settings()
