"""The shape of an Enformer: numbers only, so that the registry needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from .config import is_whole

BIN_BP = 128
"""Bases of one bin: the stem and each of the six layers of the tower halve the positions."""

N_TOWER_LAYERS = 6

EMBEDDINGS = "embeddings"
"""Where a result holds the embeddings beside the heads; no head may be called so."""

_PUBLISHED_HEADS = {"human": 5_313, "mouse": 1_643}
_WHOLE = ("channels", "depth", "n_heads", "key_size", "channel_step")
_RATES = ("dropout", "attention_dropout", "position_dropout")
_FEATURE_KINDS = 6  # three kinds of positional features, each with and without sign


@dataclass(frozen=True)
class EnformerConfig:
    """Shape of an Enformer :cite:p:`avsec2021`; the defaults are the published model's.

    It says nothing of the length of a sequence, which may be any multiple of 128 bases.

    Attributes
    ----------
    heads
        Name of each output head to its number of tracks.
    channels
        Width of the transformer, a multiple of ``6 × n_heads``; the stem has half of it, an
        embedding twice as much.
    depth
        Transformer blocks.
    n_heads
        Attention heads.
    key_size
        Width of a query and of a key in each head; that of a value is ``channels / n_heads``.
    crop
        Bins cut from each end before the output, unless a call says otherwise.
    channel_step
        Widths inside the tower are multiples of it.
    dropout
        After attention and in the feed-forward layers, in training mode; an eighth of it before
        the heads.
    attention_dropout
        On attention weights, in training mode.
    position_dropout
        On positional features, in training mode.
    """

    heads: Mapping[str, int] = field(default_factory=lambda: dict(_PUBLISHED_HEADS), hash=False)
    channels: int = 1_536
    depth: int = 11
    n_heads: int = 8
    key_size: int = 64
    crop: int = 320
    channel_step: int = 128
    dropout: float = 0.4
    attention_dropout: float = 0.05
    position_dropout: float = 0.01

    def __post_init__(self) -> None:
        for name in _WHOLE:
            _check_whole(name, getattr(self, name), least=1)
        _check_whole("crop", self.crop, least=0)
        for name in _RATES:
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise ValueError(f"{name} is {rate!r}; expected a share from 0 to below 1.")
        if self.channels % 2 or self.channels % (_FEATURE_KINDS * self.n_heads):
            raise ValueError(
                f"channels is {self.channels} and n_heads {self.n_heads}: the width must be even "
                f"and a multiple of {_FEATURE_KINDS} × n_heads, the positional features of a head."
            )
        if min(self.tower) < 1:
            raise ValueError(
                f"channel_step is {self.channel_step}, too coarse for {self.channels} channels: "
                f"the tower would have the widths {self.tower}."
            )
        object.__setattr__(self, "heads", _checked_heads(self.heads))

    @property
    def stem(self) -> int:
        """Width of the stem."""
        return self.channels // 2

    @property
    def tower(self) -> tuple[int, ...]:
        """Widths of the tower's layers: they grow by an even factor up to ``channels``."""
        steps = N_TOWER_LAYERS - 1
        exact = [self.stem * 2 ** (i / steps) for i in range(steps)]
        rounded = [round(width / self.channel_step) * self.channel_step for width in exact]
        return (*rounded, self.channels)

    @property
    def n_position_features(self) -> int:
        """Positional features: as many as a value has numbers."""
        return self.channels // self.n_heads

    @property
    def embedding_size(self) -> int:
        """Width of an embedding, what the heads read."""
        return 2 * self.channels

    @property
    def n_parameters(self) -> int:
        """Parameters of the trunk and of all heads."""
        widths = (self.stem, *self.tower)
        count = 15 * 4 * self.stem + self.stem
        count += sum(2 * width + width**2 + width + width**2 for width in widths)
        count += sum(2 * a + 5 * a * b + b for a, b in pairwise(widths))
        width, keys = self.channels, self.n_heads * self.key_size
        attention = 2 * width * keys + 2 * width**2 + width
        attention += self.n_position_features * keys + 2 * keys
        block = attention + 4 * width**2 + 3 * width + 4 * width
        final = 2 * width + width * self.embedding_size + self.embedding_size
        heads = sum(self.heads.values()) * (self.embedding_size + 1)
        return count + self.depth * block + final + heads

    def n_bins(self, length_bp: int, crop: int | None = None) -> int:
        """Bins of the output for a sequence of this length.

        Raises
        ------
        ValueError
            If the length is not a positive multiple of 128, or nothing is left after the crop.
        """
        crop = self.crop if crop is None else crop
        _check_whole("crop", crop, least=0)
        if length_bp < BIN_BP or length_bp % BIN_BP:
            raise ValueError(
                f"the sequence has {length_bp:,} bases, expected a positive multiple of {BIN_BP}."
            )
        bins = length_bp // BIN_BP
        if bins <= 2 * crop:
            raise ValueError(
                f"{length_bp:,} bases are {bins:,} bins, and crop={crop:,} would cut "
                f"{2 * crop:,} of them: take a longer sequence or a smaller crop."
            )
        return bins - 2 * crop


def _checked_heads(heads: Mapping[str, int]) -> dict[str, int]:
    if not isinstance(heads, Mapping):
        raise TypeError(f"heads is {heads!r}; expected names to numbers of tracks.")
    for name, tracks in heads.items():
        if not isinstance(name, str) or not name.isidentifier() or name == EMBEDDINGS:
            raise ValueError(
                f"{name!r} cannot be the name of a head: expected letters, digits and _, and not "
                f"{EMBEDDINGS!r}."
            )
        _check_whole(f"the number of tracks of head {name!r}", tracks, least=1)
    return {name: int(tracks) for name, tracks in heads.items()}


def _check_whole(name: str, value: object, *, least: int) -> None:
    if not is_whole(value) or value < least:  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}.")
