"""The compiled part of reading: two bits a base to codes or to one-hot rows, many stretches a call.

A byte holds four bases, the first in its highest bits; T 0, C 1, A 2, G 3. The shifts below turn
that into A 0, C 1, G 2, T 3 without a table, which compiles to wide instructions (a table of four
codes a byte took 7 times as long). One-hot rows come from a table of 256 bytes × 16 values that
stays in the first cache; read backwards, a reversed table gives the reverse complement, since the
order A, C, G, T is its own complement reversed.
"""

from __future__ import annotations

import numba
import numpy as np

from ..bases import N

_compile = numba.njit(cache=True, nogil=True)

_CODE_OF = np.array([3, 1, 0, 2], np.uint8)


def _one_hot_table() -> np.ndarray:
    byte = np.arange(256)[:, None]
    codes = _CODE_OF[(byte >> np.array([6, 4, 2, 0])) & 3]
    return np.eye(4, dtype=np.float32)[codes].reshape(256, 16)


ONE_HOT = _one_hot_table()
ONE_HOT_REVERSE = np.ascontiguousarray(ONE_HOT[:, ::-1])


@_compile
def _code(byte, shift):  # type: ignore[no-untyped-def]
    bits = (byte >> shift) & np.uint8(3)
    high = bits >> np.uint8(1)
    low = bits & np.uint8(1)
    return ((high ^ low ^ np.uint8(1)) << np.uint8(1)) | (high ^ np.uint8(1))


@_compile
def _unpack(packed, start, out):  # type: ignore[no-untyped-def]
    """Codes of ``len(out)`` bases from ``start`` on."""
    n = len(out)
    done = 0
    while done < n and (start + done) & 3:
        place = start + done
        out[done] = _code(packed[place >> 2], np.uint8(6 - 2 * (place & 3)))
        done += 1
    whole = (n - done) >> 2
    first = (start + done) >> 2
    source = packed[first : first + whole]
    goal = out[done : done + 4 * whole]
    for i in range(whole):
        byte = source[i]
        goal[4 * i] = _code(byte, np.uint8(6))
        goal[4 * i + 1] = _code(byte, np.uint8(4))
        goal[4 * i + 2] = _code(byte, np.uint8(2))
        goal[4 * i + 3] = _code(byte, np.uint8(0))
    done += 4 * whole
    while done < n:
        place = start + done
        out[done] = _code(packed[place >> 2], np.uint8(6 - 2 * (place & 3)))
        done += 1


@_compile
def _unpack_back(packed, start, out):  # type: ignore[no-untyped-def]
    """Reverse complement of the same bases."""
    n = len(out)
    place = start + n
    done = 0
    while done < n and place & 3:
        place -= 1
        out[done] = np.uint8(3) - _code(packed[place >> 2], np.uint8(6 - 2 * (place & 3)))
        done += 1
    whole = (n - done) >> 2
    first = (place >> 2) - whole
    source = packed[first : first + whole]
    goal = out[done : done + 4 * whole]
    for i in range(whole):
        byte = source[whole - 1 - i]
        goal[4 * i] = np.uint8(3) - _code(byte, np.uint8(0))
        goal[4 * i + 1] = np.uint8(3) - _code(byte, np.uint8(2))
        goal[4 * i + 2] = np.uint8(3) - _code(byte, np.uint8(4))
        goal[4 * i + 3] = np.uint8(3) - _code(byte, np.uint8(6))
    done += 4 * whole
    place -= 4 * whole
    while done < n:
        place -= 1
        out[done] = np.uint8(3) - _code(packed[place >> 2], np.uint8(6 - 2 * (place & 3)))
        done += 1


@_compile
def _copy_back(codes, out):  # type: ignore[no-untyped-def]
    """Reverse complement; 4 stays 4."""
    n = len(codes)
    for i in range(n):
        code = codes[n - 1 - i]
        out[i] = code if code == N else np.uint8(3) - code


@_compile
def _first_after(ends, place):  # type: ignore[no-untyped-def]
    """The first block that ends beyond ``place``."""
    low = 0
    high = len(ends)
    while low < high:
        middle = (low + high) >> 1
        if ends[middle] > place:
            high = middle
        else:
            low = middle + 1
    return low


@_compile
def _inside(start, end, left, right, back):  # type: ignore[no-untyped-def]
    """Where bases ``[left, right)`` of a stretch ``[start, end)`` stand in the direction read."""
    if back:
        return end - right, end - left
    return left - start, right - start


@_compile
def read_codes(packed, length, n_starts, n_ends, starts, ends, reverse, at, out):  # type: ignore[no-untyped-def]
    """Write codes of every stretch ``[starts, ends)`` of one contig to ``out`` from ``at`` on.

    ``n_starts`` and ``n_ends`` are the runs of N; beyond the contig is N too.
    """
    for row in range(len(starts)):
        start = starts[row]
        end = ends[row]
        back = reverse[row]
        goal = out[at[row] : at[row] + end - start]
        left = max(start, 0)
        right = min(end, length)
        if right <= left:
            goal[:] = N
            continue
        first, last = _inside(start, end, left, right, back)
        goal[:first] = N
        goal[last:] = N
        if back:
            _unpack_back(packed, left, goal[first:last])
        else:
            _unpack(packed, left, goal[first:last])
        block = _first_after(n_ends, left)
        while block < len(n_starts) and n_starts[block] < right:
            first, last = _inside(
                start, end, max(n_starts[block], left), min(n_ends[block], right), back
            )
            goal[first:last] = N
            block += 1


@_compile
def copy_codes(codes, starts, ends, reverse, at, out):  # type: ignore[no-untyped-def]
    """As :func:`read_codes`, from one code a base."""
    length = len(codes)
    for row in range(len(starts)):
        start = starts[row]
        end = ends[row]
        goal = out[at[row] : at[row] + end - start]
        left = max(start, 0)
        right = min(end, length)
        if right <= left:
            goal[:] = N
            continue
        first, last = _inside(start, end, left, right, reverse[row])
        goal[:first] = N
        goal[last:] = N
        if reverse[row]:
            _copy_back(codes[left:right], goal[first:last])
        else:
            goal[first:last] = codes[left:right]


@_compile
def read_one_hot(packed, length, n_starts, n_ends, starts, ends, reverse, at, tables, out):  # type: ignore[no-untyped-def]
    """One-hot rows of every stretch; ``out`` is flat, 4 values a base, and ``at`` counts bases."""
    for row in range(len(starts)):
        start = starts[row]
        end = ends[row]
        back = reverse[row]
        goal = out[4 * at[row] : 4 * (at[row] + end - start)]
        left = max(start, 0)
        right = min(end, length)
        if right <= left:
            goal[:] = 0
            continue
        first, last = _inside(start, end, left, right, back)
        goal[: 4 * first] = 0
        goal[4 * last :] = 0
        if back:
            _spread_back(packed, left, right, tables[1], goal[4 * first : 4 * last])
        else:
            _spread(packed, left, right, tables[0], goal[4 * first : 4 * last])
        block = _first_after(n_ends, left)
        while block < len(n_starts) and n_starts[block] < right:
            first, last = _inside(
                start, end, max(n_starts[block], left), min(n_ends[block], right), back
            )
            goal[4 * first : 4 * last] = 0
            block += 1


@_compile
def _put_four(table, byte, goal, at):  # type: ignore[no-untyped-def]
    """The rows of a byte's four bases. Read first, then written: so both are wide instructions.

    As a loop, in which a value might be written before the next one is read, it takes 5 times as
    long.
    """
    a0, b0, c0, d0 = table[byte, 0], table[byte, 1], table[byte, 2], table[byte, 3]
    a1, b1, c1, d1 = table[byte, 4], table[byte, 5], table[byte, 6], table[byte, 7]
    a2, b2, c2, d2 = table[byte, 8], table[byte, 9], table[byte, 10], table[byte, 11]
    a3, b3, c3, d3 = table[byte, 12], table[byte, 13], table[byte, 14], table[byte, 15]
    goal[at + 0] = a0
    goal[at + 1] = b0
    goal[at + 2] = c0
    goal[at + 3] = d0
    goal[at + 4] = a1
    goal[at + 5] = b1
    goal[at + 6] = c1
    goal[at + 7] = d1
    goal[at + 8] = a2
    goal[at + 9] = b2
    goal[at + 10] = c2
    goal[at + 11] = d2
    goal[at + 12] = a3
    goal[at + 13] = b3
    goal[at + 14] = c3
    goal[at + 15] = d3


@_compile
def _spread(packed, start, end, table, goal):  # type: ignore[no-untyped-def]
    head = min((-start) & 3, end - start)
    place = start
    for i in range(head):
        for j in range(4):
            goal[4 * i + j] = table[packed[place >> 2], 4 * (place & 3) + j]
        place += 1
    whole = (end - place) >> 2
    first = place >> 2
    inner = goal[4 * head : 4 * head + 16 * whole]
    source = packed[first : first + whole]
    for i in range(whole):
        _put_four(table, source[i], inner, 16 * i)
    place += 4 * whole
    while place < end:
        for j in range(4):
            goal[4 * (place - start) + j] = table[packed[place >> 2], 4 * (place & 3) + j]
        place += 1


@_compile
def _spread_back(packed, start, end, table, goal):  # type: ignore[no-untyped-def]
    """As :func:`_spread` from the end on: ``table`` is the reversed one."""
    place = end
    filled = 0
    while place > start and place & 3:
        place -= 1
        for j in range(4):
            goal[filled + j] = table[packed[place >> 2], 4 * (3 - (place & 3)) + j]
        filled += 4
    whole = (place - start) >> 2
    last = (place >> 2) - 1
    inner = goal[filled : filled + 16 * whole]
    source = packed[last + 1 - whole : last + 1]
    for i in range(whole):
        _put_four(table, source[whole - 1 - i], inner, 16 * i)
    filled += 16 * whole
    place -= 4 * whole
    while place > start:
        place -= 1
        for j in range(4):
            goal[filled + j] = table[packed[place >> 2], 4 * (3 - (place & 3)) + j]
        filled += 4


@_compile
def spread_codes(codes, out):  # type: ignore[no-untyped-def]
    """One-hot rows of codes; ``out`` is flat and 4 values a code."""
    for i in range(len(codes)):
        for j in range(4):
            out[4 * i + j] = np.float32(codes[i] == j)
