"""TFRecord files: read without TensorFlow, every checksum compared, damage named."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import glm
from glm.io._crc32c import crc32c, masked_crc32c

# ---- a writer that knows nothing of the reader ---------------------------------------------------


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = slow_crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**features: bytes) -> bytes:
    """Features are given as their encoded lists: see ``of_bytes`` and the like."""
    entries = [
        field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()
    ]
    return field(1, b"".join(entries))


def of_bytes(value: bytes) -> bytes:
    return field(1, field(1, value))


def of_floats(values: list[float]) -> bytes:
    return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))


def of_integers(values: list[int]) -> bytes:
    return field(3, field(1, b"".join(varint(v) for v in values)))


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*examples: bytes, name: str = "train-0.tfr", pack=zlib.compress) -> Path:
        path = tmp_path / name
        path.write_bytes(pack(b"".join(record(data) for data in examples)))
        return path

    return write


def an_example(seed: int = 0, n: int = 40) -> tuple[np.ndarray, np.ndarray, bytes]:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 5, n).astype(np.uint8)
    targets = rng.random((n // 8, 3)).astype(np.float16)
    return (
        codes,
        targets,
        example(sequence=of_bytes(codes.tobytes()), target=of_bytes(targets.tobytes())),
    )


# ---- the checksum --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_those_of_the_standard(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected  # RFC 3720, B.4, and the usual check value


@pytest.mark.parametrize("n", [1, 7, 8, 9, 64, 1001])
def test_checksums_do_not_depend_on_the_step(n: int) -> None:
    data = np.random.default_rng(n).integers(0, 256, n).astype(np.uint8).tobytes()
    assert crc32c(data) == slow_crc32c(data)
    assert masked_crc32c(data).to_bytes(4, "little") == masked(data)


# ---- what is read --------------------------------------------------------------------------------


def test_sequences_and_tracks_come_as_they_were_written(write: Callable[..., Path]) -> None:
    made = [an_example(seed) for seed in range(3)]
    path = write(*(data for *_, data in made))
    found = list(glm.io.read_tfrecords(path, length_bp=40, n_tracks=3))
    assert len(found) == 3
    for i, (record, (codes, targets, _)) in enumerate(zip(found, made, strict=True)):
        np.testing.assert_array_equal(record.codes, codes)
        np.testing.assert_array_equal(record.targets, targets)
        assert (record.codes.dtype, record.targets.dtype) == (np.uint8, np.float16)
        assert record.source == f"record {i} of {path}"
        record.codes[:] = 0  # they are the caller's own


def test_files_are_read_in_the_order_given(write: Callable[..., Path]) -> None:
    paths = [write(an_example(i)[2], name=f"{i}.tfr") for i in (2, 0, 1)]
    found = list(glm.io.read_tfrecords(map(str, paths)))
    for seed, record in zip((2, 0, 1), found, strict=True):
        np.testing.assert_array_equal(record.codes, an_example(seed)[0])
        np.testing.assert_array_equal(record.targets, an_example(seed)[1].ravel())


def test_gzip_is_read_too(write: Callable[..., Path]) -> None:
    (record,) = glm.io.read_tfrecords(write(an_example()[2], pack=gzip.compress))
    np.testing.assert_array_equal(record.codes, an_example()[0])


def test_a_file_of_no_records_has_none(write: Callable[..., Path]) -> None:
    assert list(glm.io.read_tfrecords(write())) == []


def test_one_hot_sequences_are_read(write: Callable[..., Path]) -> None:
    codes, _, _ = an_example()
    rows = np.vstack([np.eye(4, dtype=np.uint8), np.zeros((1, 4), np.uint8)])[codes]
    path = write(example(sequence=of_bytes(rows.tobytes())))
    (record,) = glm.io.read_tfrecords(path, length_bp=40)
    np.testing.assert_array_equal(record.codes, codes)
    assert record.targets is None
    wrong = write(example(sequence=of_bytes(np.ones(160, np.uint8).tobytes())))
    with pytest.raises(ValueError, match=r"record 0 of .* not one-hot"):
        list(glm.io.read_tfrecords(wrong, length_bp=40))


def test_numbers_may_be_lists_of_the_format(write: Callable[..., Path]) -> None:
    data = example(sequence=of_integers([3, 0, 4, 1]), target=of_floats([0.5, -2.0]))
    (record,) = glm.io.read_tfrecords(write(data), length_bp=4, n_tracks=1)
    assert record.codes.tolist() == [3, 0, 4, 1]
    assert record.targets.tolist() == [[0.5], [-2.0]]


def test_targets_may_be_float32(write: Callable[..., Path]) -> None:
    values = np.array([0.1, 7e4], "<f4")
    data = example(sequence=of_bytes(b"\0"), target=of_bytes(values.tobytes()))
    (record,) = glm.io.read_tfrecords(write(data), target_dtype="float32")
    np.testing.assert_array_equal(record.targets, values)


def test_records_are_read_one_by_one(write: Callable[..., Path]) -> None:
    whole = b"".join(record(an_example(i, 20_000)[2]) for i in range(40))
    path = write(name="cut.tfr", pack=lambda _: zlib.compress(whole, 0)[: len(whole) // 2])
    found = glm.io.read_tfrecords(path)
    for i in range(10):  # what is whole comes before the error of what is not
        np.testing.assert_array_equal(next(found).codes, an_example(i, 20_000)[0])
    with pytest.raises(OSError, match=r"Record \d+ of .*cut.tfr .*truncated"):
        list(found)


# ---- what is refused -----------------------------------------------------------------------------


def packed_with(at: int, flip: int = 1) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= flip
        return zlib.compress(bytes(changed))

    return pack


@pytest.mark.parametrize(
    ("pack", "why"),
    [
        (packed_with(0), "checksum of its length"),
        (packed_with(9), "checksum of its length"),
        (packed_with(30), "checksum of its data"),
        (packed_with(-1), "checksum of its data"),
        (lambda data: zlib.compress(data[:-3]), "ends 3 bytes early"),
        (lambda data: zlib.compress(data[:7]), "ends 5 bytes early"),
        (lambda data: zlib.compress(data)[:-6], "truncated"),
        (lambda data: b"", "truncated"),
        (lambda data: data, "incorrect header check"),
        (lambda data: zlib.compress(data) + b"more", "other bytes follow"),
    ],
    ids=["length", "its crc", "data", "data's crc", "end", "head", "zlib", "empty", "raw", "tail"],
)
def test_damage_is_an_error_that_names_file_and_record(
    write: Callable[..., Path], pack: Callable[[bytes], bytes], why: str
) -> None:
    path = write(an_example()[2], pack=pack)
    with pytest.raises(OSError, match=rf"Record [01] of .*train-0.tfr cannot be read: .*{why}"):
        list(glm.io.read_tfrecords(path))


def test_the_damaged_record_is_named_by_its_number(write: Callable[..., Path]) -> None:
    path = write(*(an_example(i)[2] for i in range(3)), pack=packed_with(-2))
    with pytest.raises(OSError, match=r"Record 2 of"):
        list(glm.io.read_tfrecords(path))


def test_a_length_beyond_reason_is_not_believed(write: Callable[..., Path]) -> None:
    length = struct.pack("<Q", 1 << 40)
    path = write(pack=lambda _: zlib.compress(length + masked(length)))
    with pytest.raises(OSError, match=r"claims 1,099,511,627,776 bytes"):
        list(glm.io.read_tfrecords(path))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"\x0a\x50abc", OSError, "no tf.train.Example: a field ends beyond its message"),
        (b"\x0b", OSError, "no tf.train.Example: a field has the wire type 3"),
        (b"\xff" * 12, OSError, "no tf.train.Example: a number is longer"),
        (b"\x8a", OSError, "no tf.train.Example"),
        (b"", ValueError, "has no 'sequence'; it holds nothing"),
        (example(target=of_bytes(b"")), ValueError, "has no 'sequence'; it holds target"),
        (example(sequence=of_bytes(b"\0\5")), ValueError, "the number 5 in its sequence"),
        (
            example(sequence=of_bytes(b"\0"), target=of_bytes(b"abc")),
            ValueError,
            "3 bytes of targets",
        ),
    ],
    ids=["cut", "group", "endless", "half", "empty", "no sequence", "no base", "odd"],
)
def test_what_is_no_training_record_is_refused(
    write: Callable[..., Path], data: bytes, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"record 0 of .*{message}"):
        list(glm.io.read_tfrecords(write(data)))


def test_lengths_and_tracks_that_do_not_fit_are_refused(write: Callable[..., Path]) -> None:
    path = write(an_example()[2])
    with pytest.raises(ValueError, match=r"a sequence of 40 bytes; expected 41 bases"):
        list(glm.io.read_tfrecords(path, length_bp=41))
    with pytest.raises(ValueError, match=r"15 target values, which do not fill rows of 4"):
        list(glm.io.read_tfrecords(path, n_tracks=4))


@pytest.mark.parametrize("wrong", [{"target_dtype": "int8"}, {"n_tracks": 0}, {"length_bp": -1}])
def test_arguments_are_refused_before_anything_is_read(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        glm.io.read_tfrecords("no such file", **wrong)


def test_a_file_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(glm.io.read_tfrecords("no such file"))


# ---- real training sets --------------------------------------------------------------------------


@pytest.mark.parametrize("build", ["hg38", "mm10"])
def test_real_records_have_the_shape_that_their_statistics_tell(
    test_data: Path, build: str
) -> None:
    folder = test_data / "enformer" / "tiny" / build
    facts = json.loads((folder / "statistics.json").read_text())
    paths = sorted((folder / "tfrecords").glob("*.tfr"))
    read = glm.io.read_tfrecords(
        paths, length_bp=facts["seq_length"], n_tracks=facts["num_targets"]
    )
    n, pairs = 0, np.zeros((5, 5))
    for record in read:
        n += 1
        assert record.targets is not None
        assert record.targets.shape == (facts["target_length"], facts["num_targets"])
        assert np.isfinite(record.targets).all()
        np.add.at(pairs, (record.codes[:-1], record.codes[1:]), 1)
    assert n == sum(facts[f"{part}_seqs"] for part in ("train", "valid", "test"))
    # CG is rare in mammals and GC is not: the letters are in the order that glm.bases says.
    share = pairs[:4, :4] / pairs[:4, :4].sum()
    ratio = share / share.sum(1, keepdims=True) / share.sum(0, keepdims=True)
    assert ratio[1, 2] < 0.4 < 0.8 < ratio[2, 1]
