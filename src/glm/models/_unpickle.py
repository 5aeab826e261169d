"""Read a pickled dictionary of plain values without running anything that the file names.

The Geneformer dictionaries are published as pickles: names and numbers, some of the numbers as
NumPy scalars. The reader admits those two callables of NumPy, in forms of its own that build
nothing but a number, and no other.
"""

from __future__ import annotations

import pickle
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = frozenset({"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"})


class _Number:
    """Stands for a NumPy dtype in the file: a kind and a byte order, no more."""

    def __init__(self, kind: str, *_: object) -> None:
        if kind not in _NUMBERS:
            raise pickle.UnpicklingError(f"the file holds a number of kind {kind!r}")
        self.dtype = np.dtype(kind)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = state[1]
        if order not in {"<", ">", "|", "="}:
            raise pickle.UnpicklingError(f"the file holds a number of byte order {order!r}")
        self.dtype = self.dtype.newbyteorder(order)


class _Scalar:
    """Makes a number of its kind and its bytes.

    No function: a file can set attributes of what it names, and would change the next reading.
    """

    __slots__ = ()

    def __call__(self, kind: Any, content: Any) -> int | float:
        if not isinstance(kind, _Number) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("the file holds a number that is not written as bytes")
        if len(content) != kind.dtype.itemsize:
            raise pickle.UnpicklingError("the file holds a number of the wrong length")
        return np.frombuffer(content, dtype=kind.dtype)[0].item()


_ADMITTED = {
    ("numpy.core.multiarray", "scalar"): _Scalar(),
    ("numpy._core.multiarray", "scalar"): _Scalar(),
    ("numpy", "dtype"): _Number,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the file names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("the file refers to objects outside it")


def read_pickled_dict(path: Path | str) -> dict[str, Any]:
    """Return the dictionary of names to names or numbers that ``path`` holds.

    Raises
    ------
    ValueError
        If the file is not a pickle, names any callable but NumPy's numbers, or holds anything but
        a flat dictionary with names as keys.
    """
    try:
        with open(path, "rb") as file:
            content = _Reader(file).load()
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is not a plain dictionary ({error}). Nothing in it was run; expected one of "
            "the published dictionaries: names mapped to names or numbers."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a dictionary.")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            # Not printed in full: it may be nested deeper than Python can print.
            raise ValueError(
                f"{path} maps {reprlib.repr(name)} to a {type(value).__name__}; expected names "
                "mapped to names or numbers."
            )
    return content
