"""Batches of windows: organisms in turn, moves and strands, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import glm
from glm.bases import reverse_complement
from glm.train import Recipe, TrackPoisson, TrackWindows
from glm.train.track_data import TrackData, in_turn


@pytest.fixture(scope="module")
def both(make_track_windows) -> dict[str, TrackWindows]:
    human, mouse = make_track_windows(7), make_track_windows(3, head="mouse", n_tracks=3, seed=1)
    return {"human": human, "mouse": mouse}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(1e-3, warmup=0, max_epochs=2, rows_per_batch=2, batches_per_step=2)


# ---- in turn ------------------------------------------------------------------------------------


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 12), min_size=1),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_every_window_of_the_largest_once(sizes, rows, per_step):
    parts = in_turn(sizes, rows, per_step, (0, 0))
    assert [part.number for part in parts] == list(range(len(parts)))
    n = max(-(-size // rows) for size in sizes.values())
    for head, size in sizes.items():
        batches = [part.rows for part in parts if part.head == head]
        assert len(batches) == n
        once = -(-size // rows)
        for first in range(0, n - once + 1, once):  # whole passes
            drawn = np.concatenate(batches[first : first + once])
            assert sorted(drawn.tolist()) == list(range(size))


def test_a_step_is_of_one_organism(both, recipe):
    parts = TrackData(both, TrackPoisson(), recipe, held_out={}).training(0).parts
    heads = [part.head for part in parts]
    assert heads == ["human"] * 2 + ["mouse"] * 2 + ["human"] * 2 + ["mouse"] * 2


def test_orders_differ_between_epochs_and_seeds():
    orders = [
        [part.rows.tolist() for part in in_turn({"a": 20}, 3, 1, key)]
        for key in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1] != orders[2] != orders[0]


# ---- what is in a batch -------------------------------------------------------------------------


def drawn(windows, *, training=True, seed=0, n=200, **options):
    rows = np.arange(n) % len(windows)
    rng = np.random.default_rng(seed)
    return rows, TrackPoisson(**options).batch(windows, rows, rng, training=training)


def test_as_they_are_when_measured(both):
    rows, batch = drawn(both["human"], training=False)
    np.testing.assert_array_equal(batch.codes, both["human"].codes[rows])
    np.testing.assert_array_equal(batch.targets, both["human"].targets[rows])
    assert (batch.head, batch.crop, batch.weight) == ("human", 4, 200.0)
    assert batch.targets.dtype == torch.float32


def test_every_move_and_both_strands(both):
    """Each is one of 7 moves and 2 strands, all about as often; targets go with the strand."""
    windows = both["human"]
    rows, batch = drawn(windows, n=1_400)
    swapped = windows.targets[:, ::-1][..., [1, 0, 2, 3]]
    counts = dict.fromkeys([(by, turned) for by in range(-3, 4) for turned in (0, 1)], 0)
    one = np.ones(1, np.int64)
    cut = {
        (row, by): windows.cut(one * row, one * by)[0] for row in range(7) for by in range(-3, 4)
    }
    for row, codes, targets in zip(rows, batch.codes.numpy(), batch.targets.numpy(), strict=True):
        found = [
            (by, turned)
            for by, turned in counts
            if np.array_equal(reverse_complement(cut[row, by]) if turned else cut[row, by], codes)
        ]
        assert len(found) == 1
        counts[found[0]] += 1
        expected = swapped[row] if found[0][1] else windows.targets[row]
        np.testing.assert_array_equal(targets, expected)
    assert 50 < min(counts.values()) < max(counts.values()) < 160


def test_tracks_of_the_other_strand_are_right(both):
    """Measured anew on the other strand: shares of G and of C change places, bins turn round."""
    windows = both["human"]
    _, batch = drawn(windows, shift_bp=0)
    inner = batch.codes.numpy()[:, 512:-512].reshape(200, 24, 128)
    for track, base in enumerate((2, 1)):
        share = (inner == base).mean(axis=2)
        np.testing.assert_allclose(batch.targets[..., track], share, rtol=1e-6)


def test_nothing_is_drawn_unless_asked(both):
    rows, batch = drawn(both["human"], shift_bp=0, reverse_complement=False)
    np.testing.assert_array_equal(batch.codes, both["human"].codes[rows])
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match=f"shift_bp is {wrong}"):
            TrackPoisson(shift_bp=wrong)
    with pytest.raises(ValueError, match="choose_by is 'auc'"):
        TrackPoisson(choose_by="auc")


def test_weight_is_the_share_that_is_known(both):
    targets = both["human"].targets.copy()
    targets[0] = np.nan
    targets[1, :12] = np.nan
    some = replace(both["human"], targets=targets)
    _, batch = drawn(some, n=3)
    assert batch.weight == 1.5


def test_loss(both):
    """The mean of μ - y ln μ over what is known, float64 by hand."""
    targets = both["human"].targets.copy()
    targets[0, 3:9, 1] = np.nan
    _, batch = drawn(replace(both["human"], targets=targets), n=2, training=False)
    outputs = torch.randn(2, 24, 4) * 4
    outputs[1, 0, 0] = -200.0  # whose softplus is no float32
    mean = np.logaddexp(0.0, outputs.double().numpy())
    y = batch.targets.double().numpy()
    expected = np.nanmean(mean - y * np.log(mean))
    assert TrackPoisson().loss(outputs, batch).item() == pytest.approx(expected, rel=1e-5)


# ---- the same every time ------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_makes_them(both, recipe, workers):
    def made(n: int) -> list:
        data = TrackData(both, TrackPoisson(), recipe, held_out={}, workers=n)
        torch.rand(n)
        return list(data.train_dataloader())

    for here, there in zip(made(0), made(workers), strict=True):
        assert here.head == there.head
        assert torch.equal(here.codes, there.codes)
        assert torch.equal(here.targets, there.targets)


def test_a_window_that_comes_twice_is_drawn_twice(both, recipe):
    """Of 7 and 3 windows the few come again within an epoch, by other moves."""
    data = TrackData(both, TrackPoisson(), replace(recipe, rows_per_batch=1), held_out={})
    batches = [batch for batch in data.train_dataloader() if batch.head == "mouse"]
    assert len(batches) == 7
    assert len({batch.codes.numpy().tobytes() for batch in batches}) > 3


def test_held_out(both, recipe):
    data = TrackData(both, TrackPoisson(), recipe, held_out=both)
    batches = list(data.val_dataloader()[0])
    assert [(b.head, b.rows.tolist()) for b in batches] == [
        ("human", [0, 1]),
        ("human", [2, 3]),
        ("human", [4, 5]),
        ("human", [6]),
        ("mouse", [0, 1]),
        ("mouse", [2]),
    ]
    assert torch.equal(batches[0].codes, torch.from_numpy(both["human"].codes[:2]))
    assert TrackData(both, TrackPoisson(), recipe, held_out={}).val_dataloader() == []


def test_a_part_is_called_by_its_windows(both, recipe):
    data = TrackData(both, TrackPoisson(), recipe, held_out={})
    part = data.training(0).parts[2]
    assert data.named(part) == f"mouse windows {part.rows[0]}, {part.rows[1]}"


# ---- training sets in the Basenji format ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "n", "n_tracks"), [("hg38", "human", 65, 74), ("mm10", "mouse", 54, 32)]
)
def test_a_real_training_set(test_data, name, head, n, n_tracks):
    folder = test_data / "enformer" / "tiny" / name
    windows = glm.train.read_track_windows(folder, head=head, genome=name)
    windows.check()
    assert windows.codes.shape == (n, 131_072)
    assert windows.targets.shape == (n, 512, n_tracks)
    assert (windows.crop, windows.head, windows.genome) == (256, head, name)
    bed = glm.io.read_bed(folder / "sequences.bed", columns=("chrom", "start", "end", "fold"))
    valid = bed[bed["fold"] == "valid"]
    some = windows.of_fold("valid").regions
    assert list(some.chrom) == valid["chrom"].to_list()
    assert (some.start + 32_768 == valid["start"]).all()
    assert (some.lengths == 131_072).all()
    # The first valid record, bin by bin.
    record = next(glm.io.read_tfrecords(folder / "tfrecords" / "valid-0.tfr", n_tracks=n_tracks))
    first = windows.of_fold("valid").subset([0])
    np.testing.assert_array_equal(first.codes[0], record.codes)
    four = record.targets.astype(np.float64).reshape(512, 4, n_tracks)
    root = windows.table["aggregation"].to_numpy() == "sum_sqrt"
    joined = np.where(root, np.sqrt(1 + ((four + 1) ** 2 - 1).sum(axis=1)) - 1, four.mean(axis=1))
    below = joined < 32  # where no soft clip is
    np.testing.assert_allclose(first.targets[0][below], joined[below], rtol=2e-3, atol=1e-3)
    assert below.mean() > 0.99
