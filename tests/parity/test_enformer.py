"""Our Enformer against ``enformer-pytorch``, which is given the published positional features."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from glm.models.enformer import EnformerConfig, position_features
from glm.models.enformer_weights import load_enformer, to_published_enformer
from glm.models.fast.enformer import FastEnformer

# Importing the peer loads transformers.
peer = pytest.importorskip("enformer_pytorch.modeling_enformer")

TOLERANCE = 1e-4  # of the highest value of a track, in float32
SHAPE = EnformerConfig(
    heads={"human": 7, "mouse": 3}, channels=48, depth=2, n_heads=2, key_size=8, crop=4,
    channel_step=8,
)  # fmt: skip


def gamma_of_the_paper(
    positions: Tensor, features: int, seq_len: int, dtype: torch.dtype = torch.float
) -> Tensor:
    """Densities by scipy, each over its own maximum over the positions."""
    mean = np.linspace(seq_len / features, seq_len, features)
    deviation = seq_len / features / 2
    distances = np.abs(positions.numpy().astype(np.float64))[:, None]
    density = stats.gamma.pdf(distances, (mean / deviation) ** 2, scale=deviation**2 / mean) + 1e-8
    return torch.from_numpy(density / density.max(axis=0)).to(dtype)


def reference(config: EnformerConfig) -> nn.Module:
    """The peer's model with norms that know what they meet, and outputs of attention."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peer.Enformer.from_hparams(
            dim=config.channels,
            depth=config.depth,
            heads=config.n_heads,
            output_heads=dict(config.heads),
            target_length=-1,
            attn_dim_key=config.key_size,
            dim_divisible_by=config.channel_step,
        ).eval()
        with torch.no_grad():
            for name, module in model.named_modules():
                if isinstance(module, nn.BatchNorm1d | nn.LayerNorm):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.normal_(0.0, 0.3)
                if isinstance(module, nn.BatchNorm1d):
                    module.train()
                    module.momentum = None  # the mean over all batches, of which there is one
                if name.endswith("to_out"):
                    module.weight.normal_(0.0, config.channels**-0.5)
                    module.bias.normal_(0.0, 0.3)
            model(bases_of(sequences(1, 96 * 128)))
            for module in model.modules():
                if isinstance(module, nn.BatchNorm1d):
                    module.momentum = 0.1
    return model.eval()


def sequences(n: int, length: int) -> Tensor:
    """Codes with every base and some that are not known."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 4, (n, length), generator=generator, dtype=torch.uint8)
    codes[:, 100:130] = 4
    return codes


def bases_of(codes: Tensor) -> Tensor:
    return torch.eye(5)[codes.long()][..., :4].contiguous()


@torch.no_grad()
def peer_tracks(model: nn.Module, codes: Tensor, crop: int) -> dict[str, Tensor]:
    found = model(bases_of(codes))
    return {name: x[:, crop : x.shape[1] - crop] for name, x in found.items()}


def worst(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in parts of the highest value of its track."""
    peak = expected.abs().flatten(0, -2).amax(dim=0)
    return float(((found - expected).abs() / peak).max())


@pytest.fixture
def _right_gammas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "get_positional_features_gamma", gamma_of_the_paper)


@pytest.mark.usefixtures("_right_gammas")
@pytest.mark.parametrize("bins", [9, 16, 33])
def test_tracks_agree_at_any_length(bins: int) -> None:
    theirs = reference(SHAPE)
    ours = load_enformer(theirs.state_dict(), SHAPE)
    codes = sequences(2, bins * 128)
    expected = peer_tracks(theirs, codes, SHAPE.crop)
    with torch.no_grad():
        found = ours(codes)
    fast = FastEnformer(ours).predict(codes)
    assert found.keys() == expected.keys()
    for name, tracks in found.items():
        assert tracks.shape == (2, bins - 2 * SHAPE.crop, SHAPE.heads[name])
        assert worst(tracks, expected[name]) < TOLERANCE
        assert worst(fast[name], expected[name]) < TOLERANCE


@pytest.mark.usefixtures("_right_gammas")
def test_embeddings_agree() -> None:
    theirs = reference(SHAPE)
    ours = load_enformer(theirs.state_dict(), SHAPE)
    codes = sequences(1, 16 * 128)
    with torch.no_grad():
        expected = theirs(bases_of(codes), return_only_embeddings=True)
        found = ours(codes, crop=0, heads=(), embeddings=True)
    assert found.keys() == {"embeddings"}
    assert worst(found["embeddings"], expected) < TOLERANCE


@pytest.mark.usefixtures("_right_gammas")
def test_training_mode_agrees_too() -> None:
    """Norms over the batch, and the gradient of a loss; dropouts off, as they draw differently."""
    theirs = reference(SHAPE).train()
    quiet = EnformerConfig(**{**vars(SHAPE), "dropout": 0.0, "attention_dropout": 0.0,
                              "position_dropout": 0.0})  # fmt: skip
    ours = load_enformer(theirs.state_dict(), quiet).train()
    ours.load_state_dict({k: v.clone() for k, v in ours.state_dict().items()}, assign=True)
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    bases = bases_of(sequences(2, 16 * 128)).requires_grad_()
    gradients = []
    for model in (theirs, ours):
        found = model(bases) if model is theirs else model(bases, crop=0)
        gradients.append(torch.autograd.grad(found["human"].log().mean(), bases)[0])
    assert worst(gradients[1], gradients[0]) < 10 * TOLERANCE
    expected = load_enformer(theirs.state_dict(), SHAPE).state_dict()
    for name, tensor in ours.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bins", [16, 33])
def test_the_ports_own_features_can_be_had(bins: int) -> None:
    theirs = reference(SHAPE)
    ours = load_enformer(theirs.state_dict(), SHAPE)
    codes = sequences(1, bins * 128)
    expected = peer_tracks(theirs, codes, SHAPE.crop)
    ours.gamma_over_features = True
    with torch.no_grad():
        assert worst(ours(codes)["human"], expected["human"]) < TOLERANCE
        ours.gamma_over_features = False
        assert worst(ours(codes)["human"], expected["human"]) > TOLERANCE


def test_position_features_are_those_of_the_reference_table() -> None:
    """The table was made in float32, whose densities are off by up to 0.002 of their maximum."""
    default = Path(__file__).parents[3] / "shared" / "data"
    path = Path(os.environ.get("GLM_TEST_DATA", default)) / "enformer" / "enformer_tf_gammas.pt"
    if not path.is_file():
        pytest.skip(f"no reference table at {path}")
    table = torch.load(path, weights_only=True)
    gammas = position_features(1_536, 192)[:, 64:96]
    assert gammas.shape == table.shape == (3_071, 32)
    assert float((gammas - table).abs().mean()) < 4e-6
    torch.testing.assert_close(gammas, table, atol=3e-3, rtol=0)


def test_position_features_are_those_of_the_formulas() -> None:
    """The exact ones; the gamma densities round as the reference does."""
    for length in (1_536, 1_000, 96, 8, 1):
        features = position_features(length, 96)
        places = torch.arange(1 - length, length)
        exponential, box = (
            getattr(peer, f"get_positional_features_{kind}")(places.float(), 16, length)
            for kind in ("exponential", "central_mask")
        )
        gamma = gamma_of_the_paper(places, 16, length)
        torch.testing.assert_close(features[:, :16], exponential, atol=1e-5, rtol=0)
        torch.testing.assert_close(features[:, 16:32], box, atol=0, rtol=0)
        torch.testing.assert_close(features[:, 32:48], gamma, atol=3e-3, rtol=0)
        sign = places.sign()[:, None]
        torch.testing.assert_close(features[:, 48:], features[:, :48] * sign, atol=0, rtol=0)


def test_weights_come_back_under_their_published_names() -> None:
    theirs = reference(SHAPE)
    state = theirs.state_dict()
    again = to_published_enformer(load_enformer(state, SHAPE))
    assert again.keys() == {name for name in state if not name.startswith("_trunk.")}
    for name, tensor in again.items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("_right_gammas")
def test_plain_and_fast_agree_with_the_peer_at_full_size() -> None:
    """196,608 bases through 251 million random weights; about 2 minutes of one core and 5 GB."""
    config = EnformerConfig()
    theirs = reference(config)
    codes = sequences(1, 196_608)
    expected = peer_tracks(theirs, codes, config.crop)
    state = theirs.state_dict()
    del theirs
    ours = load_enformer(state, config)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 251_221_292
    runs = {
        "plain": torch.inference_mode()(lambda: ours(codes)),
        "fast": lambda: FastEnformer(ours).predict(codes),
        "mixed": lambda: FastEnformer(ours, precision="mixed").predict(codes),
    }
    for kind, run in runs.items():
        for name, tracks in run().items():
            assert tracks.shape == (1, 896, config.heads[name])
            if kind == "mixed":
                assert float(pearson(tracks[0], expected[name][0]).min()) > 0.999
            else:
                assert worst(tracks, expected[name]) < TOLERANCE, kind


def pearson(found: Tensor, expected: Tensor) -> Tensor:
    """Over the bins of each track."""
    a, b = (x.double() - x.double().mean(dim=0) for x in (found, expected))
    return (a * b).sum(dim=0) / (a.norm(dim=0) * b.norm(dim=0))
