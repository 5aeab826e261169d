"""The reader of published dictionaries: plain values come through, nothing runs."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.lib import format as npy_format

from glm.models import _unpickle
from glm.models._unpickle import read_pickled_dict


class Call:
    """Pickled as the call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class BuildWith:
    """Pickled as a call whose result is then given a state."""

    def __init__(self, function, arguments, state) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


@pytest.fixture
def refused(tmp_path: Path, marker: Path):
    """Write bytes (or pickle an object) and expect the reader to refuse them, running nothing."""

    def check(content: object, match: str | None = None) -> None:
        path = tmp_path / "bad.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        with pytest.raises(ValueError, match=match) as caught:
            read_pickled_dict(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 2_000
        assert not marker.exists()

    return check


# ---- code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["whole", "value", "key", "nested", "argument"])
@pytest.mark.parametrize("how", ["system", "eval", "exec", "open", "getattr"])
def test_calls_are_refused(refused, marker: Path, how: str, place: str):
    code = f"open({str(marker)!r}, 'w').close()"
    call = {
        "system": Call(os.system, f"touch '{marker}'"),
        "eval": Call(builtins.eval, code),
        "exec": Call(builtins.exec, code),
        "open": Call(builtins.open, str(marker), "w"),
        "getattr": Call(builtins.getattr, Call(__import__, "os"), "system"),
    }[how]
    refused(
        {
            "whole": call,
            "value": {"a": 1, "b": call},
            "key": {call: 1},
            "nested": {"a": [({"b": call},)]},
            "argument": {"a": Call(np.dtype, call)},
        }[place],
        "Nothing in it was run",
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "__import__"),
        ("numpy", "load"),
        ("numpy", "dtype.__class__"),
        ("numpy", "ndarray"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar.__globals__"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing._private.utils", "runstring"),
        ("glm.models._unpickle", "_ADMITTED"),
        ("collections", "OrderedDict"),
        ("operator", "attrgetter"),
        ("functools", "partial"),
        ("torch", "load"),
    ],
)
@pytest.mark.parametrize("opcode", ["GLOBAL", "STACK_GLOBAL", "INST"])
def test_other_names_are_refused(refused, marker: Path, opcode: str, module: str, name: str):
    argument = b"X" + struct.pack("<I", len(str(marker))) + str(marker).encode()
    call = b"(" + argument + b"t"
    content = {
        "GLOBAL": b"\x80\x02" + named(module, name) + call + b"R.",
        "STACK_GLOBAL": b"\x80\x04" + _text(module) + _text(name) + b"\x93" + call + b"R.",
        "INST": b"(" + argument + f"i{module}\n{name}\n".encode() + b".",
    }[opcode]
    refused(content, "names .*" + name.split(".")[0])


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def test_extension_codes_are_refused(refused):
    refused(b"\x80\x02\x82\x01.")  # EXT1: a name by its registered number


@pytest.mark.parametrize("content", [b"\x80\x02X\x01\x00\x00\x00aQ.", b"Pelsewhere\n."])
def test_objects_outside_the_file_are_refused(refused, content: bytes):
    refused(content, "objects outside it")


# ---- the admitted names, misused ----------------------------------------------------------------

KIND = named("numpy", "dtype")
SCALAR = named("numpy._core.multiarray", "scalar")


def test_numbers_that_are_objects_are_refused(refused, marker: Path):
    inner = pickle.dumps(Call(os.system, f"touch '{marker}'"))
    for kind in ("O8", "|O", "O"):
        number = KIND + b"(" + _text(kind) + b"\x89\x88tR"
        raw = b"C" + bytes([len(inner)]) + inner
        refused(b"\x80\x03}" + _text("a") + SCALAR + b"(" + number + raw + b"tRs.", "of kind")


@pytest.mark.parametrize("kind", ["V8", "U3", "S4", "M8", "m8", "c16", "f2", "b1", "O8"])
def test_numbers_of_other_kinds_are_refused(refused, kind: str):
    refused(b"\x80\x02" + KIND + b"(" + _text(kind) + b"tR.", "of kind")


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, 2]),
        np.array([{"a": 1}], dtype=object),
        np.dtype([("a", "f8")]),
        np.dtype("f8"),
        np.str_("text"),
        np.datetime64("2020-01-01"),
        np.complex128(1j),
        np.bool_(True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_numpy_values_are_refused(refused, value: object):
    refused({"a": value})


@pytest.mark.parametrize(
    "arguments",
    [b"", b"K\x01", b"K\x01K\x02", _text("f8") + b"C\x08" + bytes(8)],
    ids=["none", "one", "numbers", "text"],
)
def test_numbers_made_of_something_else_are_refused(refused, arguments: bytes):
    refused(b"\x80\x03}" + _text("a") + SCALAR + b"(" + arguments + b"tRs.")


@pytest.mark.parametrize("n_bytes", [0, 7, 9, 16])
def test_numbers_of_the_wrong_length_are_refused(refused, n_bytes: int):
    number = KIND + b"(" + _text("f8") + b"tR"
    raw = b"C" + bytes([n_bytes]) + bytes(n_bytes)
    refused(b"\x80\x03}" + _text("a") + SCALAR + b"(" + number + raw + b"tRs.", "wrong length")


@pytest.mark.parametrize("order", ["O8", "?", "", 3, None, ["<"]], ids=repr)
def test_byte_orders_that_are_none_are_refused(refused, order: object):
    state = (3, order, None, None, None, -1, -1, 0)
    made = pickle.dumps(state, protocol=2)[2:-1]
    refused(b"\x80\x02" + KIND + b"(" + _text("f8") + b"tR" + made + b"b.")


STATES = {
    "attributes": {"__call__": 1, "a": 2},
    "slots": (None, {"__defaults__": (1, 2), "a": 2}),
    "code": (None, {"__code__": 1}),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
@pytest.mark.parametrize(
    "target", [SCALAR, named("numpy.core.multiarray", "scalar"), KIND, b"}"], ids=str
)
def test_states_given_to_the_admitted_names_leave_no_trace(refused, target: bytes, state: object):
    """The pickle instruction BUILD sets attributes: not on what serves the next file too."""

    def traces() -> list[object]:
        admitted = [*_unpickle._ADMITTED.values(), _unpickle._Reader]
        return [
            (dict(getattr(found, "__dict__", {})), getattr(found, "__defaults__", None))
            for found in admitted
        ]

    before = traces()
    refused(b"\x80\x02" + target + pickle.dumps(state, protocol=2)[2:-1] + b"b.")
    assert traces() == before


def test_new_without_init_is_refused(refused):
    bare = KIND + b")\x81"  # NEWOBJ: a number's kind of which nothing is known
    refused(b"\x80\x03}" + _text("a") + SCALAR + b"(" + bare + b"C\x08" + bytes(8) + b"tRs.")


# ---- not a flat dictionary ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [["a", 1], "text", 5, None, {"a"}, ("a", 1), 1.5],
    ids=lambda content: type(content).__name__,
)
def test_other_containers_are_refused(refused, content: object):
    refused(content)


@pytest.mark.parametrize(
    "value",
    [[1], {"b": 1}, (1, 2), None, b"raw", [["deep"] * 1_000] * 100],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_refused(refused, value: object):
    refused({"good": 1, "a": value}, "mapped to names or numbers")


@pytest.mark.parametrize("key", [1, 1.5, None, b"a", ("a",), True], ids=repr)
def test_other_keys_are_refused(refused, key: object):
    refused({"good": 1, key: 1}, "mapped to names or numbers")


def test_values_nested_without_end_are_refused(refused):
    """Deeper than Python can print: the message must not try to."""
    depth = 20_000
    refused(b"\x80\x02}" + _text("a") + b"]" * depth + b"a" * (depth - 1) + b"s.")
    refused(b"\x80\x02}" + b")" + b"\x85" * depth + b"K\x01s.")


def test_a_dictionary_that_holds_itself_is_refused(refused):
    content: dict[str, object] = {}
    content["a"] = content
    refused(content)


# ---- damaged files ------------------------------------------------------------------------------


def test_every_truncation_is_refused(refused):
    whole = pickle.dumps({"ENSG1": np.float64(2.5), "ENSG2": np.int64(7), "ENSG3": "text"})
    for length in range(len(whole)):
        refused(whole[:length])


@pytest.mark.parametrize(
    "content",
    [b"", b"not a pickle", b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html>"],
    ids=["empty", "text", "pointer", "page"],
)
def test_other_files_are_refused(refused, content: bytes):
    refused(content)


def test_an_array_file_is_refused(refused):
    refused(npy_format.magic(1, 0) + b"v\x00{'descr': '|O'}")


def test_a_missing_file_is_an_os_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        read_pickled_dict(tmp_path / "missing.pkl")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_noise_is_refused_or_plain(tmp_path: Path, content: bytes):
    (tmp_path / "noise.pkl").write_bytes(content)
    try:
        read = read_pickled_dict(tmp_path / "noise.pkl")
    except ValueError:
        return
    assert all(isinstance(value, str | int | float) for value in read.values())


# ---- what comes through -------------------------------------------------------------------------

NUMBERS = [getattr(np, f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
SCALARS = st.one_of(
    *(st.integers(np.iinfo(kind).min, np.iinfo(kind).max).map(kind) for kind in NUMBERS),
    st.floats(width=32, allow_nan=False).map(np.float32),
    st.floats(allow_nan=False).map(np.float64),
)
PLAIN = st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.booleans())


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), PLAIN), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_through(tmp_path: Path, content: dict, protocol: int):
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert read_pickled_dict(tmp_path / "plain.pkl") == content


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), SCALARS), st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_numpy_scalars_come_through_as_numbers(tmp_path: Path, content: dict, protocol: int):
    (tmp_path / "numbers.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickled_dict(tmp_path / "numbers.pkl")
    assert read == {name: value.item() for name, value in content.items()}
    assert {type(value) for value in read.values()} <= {int, float}


def test_numbers_of_the_other_byte_order_come_through(tmp_path: Path):
    (tmp_path / "big.pkl").write_bytes(
        b"\x80\x03}"
        + _text("a")
        + SCALAR
        + b"("
        + pickle.dumps(np.dtype(">i4"), protocol=3)[2:-1]
        + b"C\x04\x00\x00\x01\x02tRs."
    )
    assert read_pickled_dict(tmp_path / "big.pkl") == {"a": 258}


def test_nan_comes_through(tmp_path: Path):
    """It is a number; the vocabulary refuses it as a median."""
    (tmp_path / "nan.pkl").write_bytes(pickle.dumps({"a": float("nan")}))
    assert np.isnan(read_pickled_dict(tmp_path / "nan.pkl")["a"])
