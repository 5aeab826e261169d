"""Sequences held in memory: a dictionary of texts or codes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..bases import N, to_codes
from . import _kernels
from ._layout import Pieces


class Records:
    """Sequences by name. Codes are used where they are, and never written to.

    Parameters
    ----------
    sequences
        Text of DNA, either case, or uint8 codes (0 to 4), by name.

    Raises
    ------
    ValueError
        If there are none, if one is empty, or if something in one is no DNA.
    TypeError
        If one is neither text nor uint8 codes.
    """

    def __init__(self, sequences: Mapping[str, str | NDArray[np.uint8]]) -> None:
        if not sequences:
            raise ValueError("There are no sequences in this dictionary: a genome needs one.")
        self._codes = {str(name): _codes(name, value) for name, value in sequences.items()}
        if len(self._codes) != len(sequences):
            raise ValueError("Two sequences have the same name once names are read as text.")
        self._masked = {
            str(name): lower_case(value) if isinstance(value, str) else np.empty((0, 2), np.int64)
            for name, value in sequences.items()
        }
        self.lengths = {name: len(codes) for name, codes in self._codes.items()}

    def read(self, name: str, pieces: Pieces, out: NDArray[np.uint8]) -> None:
        """Write the codes of pieces of one sequence to their places in ``out``."""
        codes = self._codes[name].view()
        codes.flags.writeable = False  # one kind of array for the compiler, whatever the user's is
        _kernels.copy_codes(codes, *pieces, out)

    def masked(self, name: str) -> NDArray[np.int64]:
        """Runs in lower case: starts and ends."""
        return self._masked[name]

    def head(self) -> bytes:
        """A hash of all there is."""
        found = hashlib.sha256()
        for name, codes in self._codes.items():
            found.update(f"{name}\t{len(codes)}\n".encode())
            found.update(np.ascontiguousarray(codes).data)
        return found.digest()

    def close(self) -> None:
        """Nothing to do."""


def lower_case(text: str) -> NDArray[np.int64]:
    """Starts and ends of the runs of lower-case letters in a text of ASCII."""
    lower = np.frombuffer(text.encode("ascii"), np.uint8) >= ord("a")
    changes = np.flatnonzero(np.diff(np.concatenate([[False], lower, [False]]).view(np.int8)))
    return changes.astype(np.int64).reshape(-1, 2)


def _codes(name: object, value: str | NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(value, str):
        try:
            codes = to_codes(value)
        except ValueError as error:
            raise ValueError(f"In sequence {name!r}: {error}") from None
    elif isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 1:
        codes = value.view(np.ndarray)
        if codes.size and codes.max() > N:
            raise ValueError(
                f"Sequence {name!r} has code {int(codes.max())}; codes are A 0, C 1, G 2, T 3 and "
                "4 for what is not known. glm.bases.to_codes makes them of text."
            )
    else:
        found = f"{value.dtype} array" if isinstance(value, np.ndarray) else type(value).__name__
        raise TypeError(f"Sequence {name!r} is {found}; expected text or one row of uint8 codes.")
    if not len(codes):
        raise ValueError(f"Sequence {name!r} has no bases. Leave it out.")
    return codes
