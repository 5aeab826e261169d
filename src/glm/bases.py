"""DNA as codes: A 0, C 1, G 2, T 3, and 4 for N, every other IUPAC letter and padding.

Upper and lower case are the same. What is no letter of DNA (U, a gap, a space, a line's end) is an
error that names its place, never a base.
"""

from __future__ import annotations

import numpy as np

LETTERS = "ACGT"
N = 4
"""The code of what is not known: N, other IUPAC letters, padding."""

_UNKNOWN = "NRYSWKMBDHV"
_REFUSED = 255


def _table() -> np.ndarray:
    table = np.full(256, _REFUSED, np.uint8)
    for code, letters in enumerate([*LETTERS, _UNKNOWN]):
        for letter in letters:
            table[[ord(letter), ord(letter.lower())]] = code
    return table


_CODE_OF = _table()
_TEXT_OF = np.frombuffer(b"ACGTN", np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, N], np.uint8)


def to_codes(text: str | bytes) -> np.ndarray:
    """Codes of a text of DNA.

    Parameters
    ----------
    text
        Letters of DNA, either case. IUPAC letters other than A, C, G and T are not known: 4.

    Returns
    -------
    uint8, one a letter.

    Raises
    ------
    ValueError
        If there is anything else; the message has the first place and what to do.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise ValueError(_no_dna(error.object[error.start], error.start, 1)) from None
    # Twice as fast as np.take, which makes indices of eight bytes first.
    codes = np.frombuffer(bytearray(raw).translate(_CODE_OF.tobytes()), np.uint8)
    if codes.size and codes.max() == _REFUSED:
        refused = codes == _REFUSED
        first = int(refused.argmax())
        raise ValueError(_no_dna(chr(raw[first]), first, int(refused.sum())))
    return codes


def _no_dna(letter: str, place: int, count: int) -> str:
    ways = {
        "U": "It looks like RNA: replace U by T.",
        "-": "Take gaps out first.",
        "\ufeff": "The text begins with a byte order mark: read the file as utf-8-sig.",
        "\r": "Take line ends out first.",
        "\n": "Take line ends out first.",
        " ": "Take spaces out first.",
    }
    return (
        f"{count:,} character{'s are' if count > 1 else ' is'} no DNA; the first is {letter!r} at "
        f"position {place:,} (from 0). Expected A, C, G, T, N or another IUPAC letter. "
        + ways.get(letter.upper(), "")
    ).strip()


def to_text(codes: np.ndarray) -> str:
    """Upper-case text of codes; 4 is N."""
    return np.take(_TEXT_OF, codes).tobytes().decode("ascii")


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """The other strand, along the last axis; what is not known stays so."""
    return np.take(_COMPLEMENT, codes[..., ::-1])


def one_hot(codes: np.ndarray) -> np.ndarray:
    """float32, ... × 4 in the order A, C, G, T; all zero where the base is not known."""
    table = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])
    return table[codes]
