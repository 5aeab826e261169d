"""The compiled part of the k-mer encoding.

A k-mer's number is built by doubling: two bases in a byte, four in a byte, then all of them, so
that a base takes part in three or four wide instructions whatever k is. It is done in blocks that
stay in the first cache.
"""

from __future__ import annotations

import numba
import numpy as np

_compile = numba.njit(cache=True, nogil=True, error_model="numpy")

N_SPECIAL = 5
UNKNOWN = 1
_BLOCK = 4096  # bases at a time
_LONGEST = 8


@_compile
def overlapping(codes, offsets, k, to_tokens, to_offsets):  # type: ignore[no-untyped-def]
    """Every k-mer of every sequence, one base further each; returns how many there are."""
    ones = np.empty(_BLOCK + _LONGEST, np.uint8)
    twos = np.empty(_BLOCK + _LONGEST, np.uint8)
    fours = np.empty(_BLOCK + _LONGEST, np.uint8)
    end = 0
    to_offsets[0] = 0
    for row in range(len(offsets) - 1):
        sequence = codes[offsets[row] : offsets[row + 1]]
        n = max(len(sequence) - k + 1, 0)
        for first in range(0, n, _BLOCK):
            size = min(_BLOCK, n - first)
            block = sequence[first : first + size + k - 1]
            to = to_tokens[end + first : end + first + size]
            known = _load(block, ones, twos, fours)
            _combine(ones, twos, fours, k, to)
            if not known:
                _mark_unknown(block, k, to)
        end += n
        to_offsets[row + 1] = end
    return end


@_compile
def _load(block, ones, twos, fours):  # type: ignore[no-untyped-def]
    """Bases in the order A, T, C, G, by one, two and four; returns whether all are known."""
    n = len(block)
    one, two, four = ones[:n], twos[:n], fours[:n]
    unknown = np.uint8(0)
    for i in range(n):
        code = block[i]
        unknown |= code & np.uint8(0xFC)
        # A 0, C 1, G 2, T 3 become 0, 2, 3, 1.
        one[i] = (((code ^ (code >> 1)) & 1) << 1) | ((code >> 1) & 1)
    next_one, next_two = ones[1 : n + 1], twos[2 : n + 2]
    for i in range(n):
        two[i] = (one[i] << 2) | next_one[i]
    for i in range(n):
        four[i] = (two[i] << 4) | next_two[i]
    return unknown == 0


@_compile
def _combine(ones, twos, fours, k, to):  # type: ignore[no-untyped-def]
    """Tokens of a block; what stands beyond its last base is never looked at."""
    n = len(to)
    if k == 1:
        _shifted(ones, 0, ones, 0, to)
    elif k == 2:
        _shifted(twos, 0, ones, 0, to)
    elif k == 3:
        _shifted(twos, 2, ones[2:], 3, to)
    elif k == 4:
        _shifted(fours, 0, ones, 0, to)
    elif k == 5:
        _shifted(fours, 2, ones[4:], 3, to)
    elif k == 6:
        _shifted(fours, 4, twos[4:], 15, to)
    elif k == 7:
        last_two, last = twos[4:], ones[6:]
        for i in range(n):
            number = (np.uint32(fours[i]) << 6) | (np.uint32(last_two[i]) << 2) | last[i]
            to[i] = number + N_SPECIAL
    else:
        _shifted(fours, 8, fours[4:], 255, to)


@_compile
def _shifted(high, bits, low, mask, to):  # type: ignore[no-untyped-def]
    shift, keep = np.uint32(bits), np.uint32(mask)
    for i in range(len(to)):
        to[i] = ((np.uint32(high[i]) << shift) | (np.uint32(low[i]) & keep)) + np.uint32(N_SPECIAL)


@_compile
def _mark_unknown(block, k, to):  # type: ignore[no-untyped-def]
    """A k-mer is unknown up to k - 1 bases after an unknown base came into it."""
    left = 0
    for i in range(len(block)):
        left = k if block[i] > 3 else left - 1
        if left > 0 and i >= k - 1:
            to[i - k + 1] = UNKNOWN


@_compile
def strided(codes, offsets, k, stride, to_tokens, to_offsets):  # type: ignore[no-untyped-def]
    """Every ``stride``-th k-mer of every sequence; returns how many there are."""
    end = 0
    to_offsets[0] = 0
    for row in range(len(offsets) - 1):
        sequence = codes[offsets[row] : offsets[row + 1]]
        n = (len(sequence) - k) // stride + 1 if len(sequence) >= k else 0
        to = to_tokens[end : end + n]
        for i in range(n):
            piece = sequence[i * stride : i * stride + k]
            number, unknown = np.uint32(0), np.uint8(0)
            for j in range(k):
                code = piece[j]
                unknown |= code & np.uint8(0xFC)
                rank = (((code ^ (code >> 1)) & 1) << 1) | ((code >> 1) & 1)
                number = (number << np.uint32(2)) | np.uint32(rank)
            to[i] = UNKNOWN if unknown else number + np.uint32(N_SPECIAL)
        end += n
        to_offsets[row + 1] = end
    return end


@_compile
def join(numbers, k, stride, to_codes):  # type: ignore[no-untyped-def]
    """Write the bases (in the order A, T, C, G) of k-mers; 4 where no known k-mer covers one.

    ``numbers`` are tokens; below the specials' count a k-mer is not known. Returns the first token
    that contradicts an earlier one, or -1.
    """
    to_codes[:] = 4
    for i in range(len(numbers)):
        if numbers[i] < N_SPECIAL:
            continue
        number = numbers[i] - N_SPECIAL
        for j in range(k):
            base = (number >> (2 * (k - 1 - j))) & 3
            place = i * stride + j
            if to_codes[place] != 4 and to_codes[place] != base:
                return i
            to_codes[place] = base
    return -1
