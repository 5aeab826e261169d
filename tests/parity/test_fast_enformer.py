"""The fast Enformer against the plain one, with both sets of kernels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glm.models.enformer import Attention, Enformer, EnformerConfig
from glm.models.fast import products
from glm.models.fast.enformer import FastEnformer, executor
from glm.models.fast.enformer.transformer import runs_of
from glm.models.fast.enformer.winograd import WinogradConv

TOLERANCE = 2e-5  # of the highest value of a track
BINS = 40
CROP = 4

needs_onednn = pytest.mark.skipif(
    not products.onednn_works(torch.float32), reason="this PyTorch has no oneDNN linear operator"
)
both_kernels = pytest.mark.parametrize(
    "kernels", ["torch", pytest.param("onednn", marks=needs_onednn)]
)


def random_enformer(**shape: object) -> Enformer:
    """Weights, statistics and outputs of attention that leave nothing at its start."""
    config = EnformerConfig(
        **{"heads": {"human": 7, "mouse": 3}, "channels": 96, "depth": 2, "n_heads": 2,
           "key_size": 16, "crop": CROP, "channel_step": 16, **shape}
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enformer(config).eval()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0.0, 0.3)
                if isinstance(module, nn.BatchNorm1d):
                    module.train()
                    module.momentum = None
                if isinstance(module, Attention):
                    module.output.weight.normal_(0.0, 0.1)
            model(codes(1, 96 * 128), crop=0)
    return model.eval()


def codes(n: int, length: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (n, length), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def plain(model: Enformer, sequence: Tensor, crop: int | None = None) -> dict[str, Tensor]:
    return model(sequence, crop=crop, embeddings=True)


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in parts of the highest value of its track."""
    assert found.shape == expected.shape
    return float(((found - expected).abs() / expected.abs().amax(dim=-2, keepdim=True)).max())


@pytest.fixture(scope="module")
def model() -> Enformer:
    return random_enformer()


@both_kernels
@pytest.mark.parametrize("bins", [9, 10, 31, 40])
def test_tracks_are_those_of_the_plain_model(model: Enformer, kernels: str, bins: int) -> None:
    sequence = codes(2, bins * 128)
    expected = plain(model, sequence)
    found = FastEnformer(model, kernels=kernels).predict(sequence)
    assert found.keys() == {"human", "mouse"}
    for name, tracks in found.items():
        assert tracks.dtype == torch.float32
        assert worst(tracks, expected[name]) < TOLERANCE


@both_kernels
def test_chunks_and_blocks_leave_no_seams(
    model: Enformer, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Positions of a chunk and queries of a block that divide nothing evenly."""
    monkeypatch.setattr(executor, "_ON_CPU", {"chunk": 90, "queries": 7})
    sequence = codes(1, BINS * 128)
    expected = plain(model, sequence)
    found = FastEnformer(model, kernels=kernels).predict(sequence, embeddings=True)
    for name, numbers in found.items():
        assert worst(numbers, expected[name]) < 10 * TOLERANCE


@both_kernels
@pytest.mark.parametrize("bins", [1, 2, 3])
def test_very_short_sequences(model: Enformer, kernels: str, bins: int) -> None:
    sequence = codes(1, bins * 128)
    found = FastEnformer(model, kernels=kernels).predict(sequence, crop=0)
    for name, tracks in found.items():
        torch.testing.assert_close(tracks, plain(model, sequence, 0)[name], rtol=1e-4, atol=1e-5)


def test_numbers_in_place_of_codes(model: Enformer) -> None:
    """One-hot bases give what codes give, and any other numbers what the plain model makes."""
    fast, sequence = FastEnformer(model), codes(1, BINS * 128)
    bases = torch.eye(5)[sequence.long()][..., :4]
    assert torch.equal(fast.predict(bases)["human"], fast.predict(sequence)["human"])
    generator = torch.Generator().manual_seed(2)
    mixture = torch.rand(bases.shape, generator=generator)
    expected = plain(model, mixture)["human"]
    assert worst(fast.predict(mixture)["human"], expected) < TOLERANCE


@pytest.mark.parametrize(
    "bins", [[0], [31], [5, 6, 7], [7, 0, 31, 6, 6], list(range(0, 32, 2)), list(range(32))]
)
def test_asked_bins_and_tracks_are_those_of_all(model: Enformer, bins: list[int]) -> None:
    sequence = codes(2, BINS * 128)
    expected = plain(model, sequence)
    found = FastEnformer(model).predict(
        sequence, bins=bins, tracks={"mouse": [2, 0, 2]}, embeddings=True
    )
    assert found.keys() == {"mouse", "embeddings"}
    everything = expected["mouse"][:, :, [2, 0, 2]]
    peak = everything.amax(dim=1, keepdim=True)
    assert float(((found["mouse"] - everything[:, bins]).abs() / peak).max()) < TOLERANCE
    peak = expected["embeddings"].abs().amax(dim=1, keepdim=True)
    difference = (found["embeddings"] - expected["embeddings"][:, bins]).abs()
    assert float((difference / peak).max()) < 10 * TOLERANCE


def test_less_is_computed_where_less_is_asked_for(
    model: Enformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multiplications, counted: the last block's for three bins, and two tracks of ten."""
    counted: list[int] = []

    def count(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        counted.append(rows.shape[0] * rows.shape[1] * weight.shape[0])
        return F.linear(rows, weight, bias)

    fast = FastEnformer(model, kernels="torch")
    hidden = fast.tower(codes(1, BINS * 128)[0])
    fast.predict(codes(1, BINS * 128))  # position keys are made once
    fast._product = fast._transformer._product = count
    sizes = {}
    for name, bins, tracks in (("all", range(BINS), None), ("few", [7, 8, 9], [0, 1])):
        counted.clear()
        asked = {"human": None if tracks is None else list(tracks)}
        out = fast._empty((len(bins),), asked, False)
        with torch.no_grad():
            fast._finish(hidden.clone(), list(bins), asked, out)
        sizes[name] = sum(counted)
    config, n = model.config, BINS - 3
    width, keys = config.channels, config.n_heads * config.key_size
    spared = n * width * keys  # queries
    spared += n * BINS * (keys + width)  # scores of content, and means of values
    spared += n * width * (width + 4 * width)  # attention's output, perceptron
    spared += n * width * 2 * width  # what the heads read
    spared += (BINS * 7 - 3 * 2) * 2 * width  # tracks
    by_position = keys * (BINS * 2 * BINS - 3 * (BINS + 3))  # a block sees length + its own size
    assert sizes["all"] - sizes["few"] == spared + by_position


@pytest.mark.parametrize("kind", ["codes", "numbers"])
def test_shifted_windows_are_those_of_windows_alone(model: Enformer, kind: str) -> None:
    """Forwards, on the spot, back, far away; at the ends of the stretch too."""
    length, stretch = BINS * 128, codes(1, 90 * 128 + 50)[0]
    if kind == "numbers":
        stretch = torch.eye(5)[stretch.long()][..., :4]
    starts = [50 + 128 * shift for shift in (0, 1, 4, 37, 38, 38, 5, 50, 20)]
    fast = FastEnformer(model)
    tower = fast.tower
    lengths: list[int] = []
    fast.tower = lambda part: lengths.append(len(part)) or tower(part)
    windows = list(fast.predict_shifted(stretch, starts, length, embeddings=True))
    fast.tower = tower
    for start, window in zip(starts, windows, strict=True):
        alone = fast.predict(stretch[None, start : start + length], embeddings=True)
        assert window.keys() == alone.keys()
        for name, numbers in window.items():
            # Several threads part products by their rows, so that the last bits may differ.
            highest = float(alone[name].abs().max())
            torch.testing.assert_close(numbers, alone[name][0], rtol=0, atol=1e-5 * highest)
    # Two ends of 6 bins, and as much as the window moved; all of it where it moved back or far.
    moved = [b - a for a, b in pairwise(starts)]
    shared = [step for step in moved if 0 <= step < length - 6 * 128]
    assert len(shared) == 5
    assert sum(lengths) == sum(shared) + 5 * 12 * 128 + 4 * length


def test_shifted_windows_may_ask_for_bins_and_tracks(model: Enformer) -> None:
    fast, stretch = FastEnformer(model), codes(1, 60 * 128)[0]
    asked = {"tracks": {"human": [1]}, "bins": [3, 2], "crop": 7}
    windows = fast.predict_shifted(stretch, [0, 256], BINS * 128, **asked)
    for start, window in zip([0, 256], windows, strict=True):
        alone = fast.predict(stretch[None, start : start + BINS * 128], **asked)["human"][0]
        assert window["human"].shape == (2, 1)
        torch.testing.assert_close(window["human"], alone, rtol=1e-5, atol=1e-6)


@both_kernels
def test_mixed_precision_keeps_the_tracks(model: Enformer, kernels: str) -> None:
    """The tower is the same; the tracks correlate."""
    if kernels == "onednn" and not products.onednn_works(torch.bfloat16):
        pytest.skip("this processor or PyTorch has no bfloat16 products of oneDNN")
    sequence = codes(1, 100 * 128)
    mixed = FastEnformer(model, kernels=kernels, precision="mixed")
    single = FastEnformer(model, kernels=kernels)
    assert torch.equal(mixed.tower(sequence[0]), single.tower(sequence[0]))
    for name, tracks in mixed.predict(sequence, crop=0).items():
        assert tracks.dtype == torch.float32
        a, b = (x[0] - x[0].mean(dim=0) for x in (tracks, plain(model, sequence, 0)[name]))
        correlation = (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0))
        assert float(correlation.min()) > 0.999
        assert not torch.equal(tracks, single.predict(sequence, crop=0)[name])


def test_one_block_and_one_head_are_enough() -> None:
    model = random_enformer(depth=1, heads={"only": 2})
    sequence = codes(1, BINS * 128)
    found = FastEnformer(model).predict(sequence, bins=[4, 9])["only"]
    expected = plain(model, sequence)["only"][:, [4, 9]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_ports_gamma_features_reach_the_executor() -> None:
    model = random_enformer()
    fast, sequence = FastEnformer(model), codes(1, BINS * 128)
    right = fast.predict(sequence)["human"]
    model.gamma_over_features = True
    wrong = fast.predict(sequence)["human"]
    assert worst(wrong, plain(model, sequence)["human"]) < TOLERANCE
    model.gamma_over_features = False
    assert torch.equal(fast.predict(sequence)["human"], right)
    assert not torch.equal(wrong, right)


def test_nothing_is_left_behind() -> None:
    """Mode, weights, statistics, random state, and a result that can be trained on."""
    model = random_enformer().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, sequence = torch.get_rng_state(), codes(1, BINS * 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = FastEnformer(model).predict(sequence, embeddings=True)
    assert model.training
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert worst(found["human"], plain(model.eval(), sequence)["human"]) < TOLERANCE
    head = nn.Linear(model.config.embedding_size, 1)
    head(found["embeddings"]).sum().backward()
    assert head.weight.grad is not None
    assert not found["human"].requires_grad


def test_nothing_asked_for_is_nothing(model: Enformer) -> None:
    fast, sequence = FastEnformer(model), codes(2, BINS * 128)
    assert fast.predict(sequence, tracks={}) == {}
    assert fast.predict(sequence, tracks={"human": []})["human"].shape == (2, 32, 0)
    assert fast.predict(sequence, bins=[])["mouse"].shape == (2, 0, 3)
    assert fast.predict(sequence[:0])["mouse"].shape == (0, 32, 3)
    assert list(fast.predict_shifted(sequence[0], [], BINS * 128)) == []


@both_kernels
@pytest.mark.parametrize("n", [2, 4, 6, 64])
def test_winograd_is_the_convolution(kernels: str, n: int) -> None:
    product = F.linear if kernels == "torch" else products.onednn_product
    generator = torch.Generator().manual_seed(3)
    rows = torch.rand(n + 4, 24, generator=generator)
    weight = torch.randn(16, 24, 5, generator=generator)
    bias = torch.randn(16, generator=generator)
    expected = F.conv1d(rows.T[None].double(), weight.double(), bias.double())[0].T
    found = WinogradConv(weight, bias, product)(rows)
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-6


def test_runs() -> None:
    assert runs_of([]) == []
    assert runs_of([3]) == [(3, 4)]
    assert runs_of([0, 1, 2, 5, 7, 8]) == [(0, 3), (5, 6), (7, 9)]
    assert runs_of(range(4)) == [(0, 4)]


@pytest.fixture
def fast(model: Enformer) -> FastEnformer:
    return FastEnformer(model)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"tracks": {"rat": [0]}}, KeyError, "no head 'rat': this model has human, mouse"),
        ({"tracks": {"human": [0, 7]}}, ValueError, "tracks 0 to 6, not 7"),
        ({"tracks": {"human": [-1]}}, ValueError, "tracks 0 to 6, not -1"),
        ({"tracks": ["human"]}, TypeError, "is a list, expected heads to their tracks"),
        ({"bins": [32]}, ValueError, "bins 0 to 31 .*, not 32"),
        ({"crop": 20}, ValueError, "40 bins, and crop=20 would cut 40"),
        ({"crop": -1}, ValueError, "crop is -1"),
    ],
)
def test_what_is_not_there_is_refused(
    fast: FastEnformer, asked: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fast.predict(codes(1, BINS * 128), **asked)


@pytest.mark.parametrize("wrong", [[True, False], [1.7], "12", 3, np.array([True]), [None]])
def test_what_are_no_places_is_refused(fast: FastEnformer, wrong) -> None:
    """A mask would be taken for places 0 and 1, a text for its digits."""
    with pytest.raises(TypeError, match=r"bins is .* expected whole numbers in a list"):
        fast.predict(codes(1, BINS * 128), bins=wrong)
    with pytest.raises(TypeError, match=r"tracks of 'human' is .* expected whole numbers"):
        fast.predict(codes(1, BINS * 128), tracks={"human": wrong})


def test_sequences_that_are_none_are_refused(fast: FastEnformer) -> None:
    with pytest.raises(ValueError, match="5,121 bases, expected a positive multiple of 128"):
        fast.predict(codes(1, 5_121))
    with pytest.raises(ValueError, match=r"shape \(5120,\), expected codes"):
        fast.predict(codes(1, 5_120)[0])
    with pytest.raises(ValueError, match="codes go from 0 to 5"):
        fast.predict(codes(1, 5_120).clamp(max=3) * 5 // 3)


def test_windows_that_do_not_fit_are_refused(fast: FastEnformer) -> None:
    stretch = codes(1, 60 * 128)[0]
    with pytest.raises(ValueError, match="1 windows do not start a multiple of 128 bases"):
        fast.predict_shifted(stretch, [0, 128, 200], 5_120)
    with pytest.raises(ValueError, match=r"2 windows of 5,120 bases .* first starts at 2,688"):
        fast.predict_shifted(stretch, [0, 2_688, -128], 5_120)


def test_choices_that_do_not_exist_are_refused(model: Enformer) -> None:
    with pytest.raises(ValueError, match="precision is 'bfloat16', expected"):
        FastEnformer(model, precision="bfloat16")
    with pytest.raises(ValueError, match="kernels is 'mkl', expected"):
        FastEnformer(model, kernels="mkl")
    with pytest.raises(ValueError, match=r"holds torch\.float64 weights"):
        FastEnformer(random_enformer().double())
