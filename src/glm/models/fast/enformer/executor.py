"""The executor: which parts run, on which kernels, for which bins and tracks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import is_whole
from ...enformer import (
    BIN_BP,
    EMBEDDINGS,
    GELU_SLOPE,
    Enformer,
    as_one_hot,
    check_sequence,
)
from ..products import float32_pays, onednn_product, onednn_works
from .tower import FastTower, Norm
from .transformer import FastTransformer

_EDGE = 3  # bins whose tower output depends on where the window ends
_ON_CPU = {"chunk": 1_024, "queries": 256}
_ON_CARD = {"chunk": 16_384, "queries": 2_048}

Tracks = Mapping[str, Sequence[int] | None]
"""Head to the tracks that are asked for, in the order of the output; ``None`` is all of them."""

_Wanted = dict[str, list[int] | None]


class FastEnformer:
    """Inference with an :class:`~glm.models.enformer.Enformer`.

    Gives what the plain model gives in evaluation mode, whatever mode it is in, and changes neither
    it nor any setting of torch. Sequences are taken one at a time.

    Parameters
    ----------
    enformer
        The model. Its weights are used, not copied, except those of the wide convolutions, and
        unless they have to move to ``device``. They must not change afterwards.
    device
        Where to compute; ``None`` is where the weights are.
    precision
        ``"float32"``, or ``"mixed"``: matrix products of the transformer blocks in bfloat16, all
        else and the scores of attention in float32.
    kernels
        ``"torch"``, ``"onednn"``, or ``"auto"``: oneDNN on processors where it is known to pay.
    """

    def __init__(
        self,
        enformer: Enformer,
        *,
        device: torch.device | str | None = None,
        precision: Literal["float32", "mixed"] = "float32",
        kernels: Literal["auto", "torch", "onednn"] = "auto",
    ) -> None:
        if precision not in ("float32", "mixed"):
            raise ValueError(f"precision is {precision!r}, expected 'float32' or 'mixed'.")
        if kernels not in ("auto", "torch", "onednn"):
            raise ValueError(f"kernels is {kernels!r}, expected 'auto', 'torch' or 'onednn'.")
        wrong = {p.dtype for p in enformer.parameters()} - {torch.float32}
        if wrong:
            raise ValueError(f"the model holds {wrong.pop()} weights, expected torch.float32.")
        here = enformer.stem.conv.weight.device
        self.device = here if device is None else torch.device(device)
        if torch.empty(0, device=self.device).device != here:
            enformer = copy.deepcopy(enformer).to(self.device)
        self.enformer, self.config = enformer, enformer.config
        self.precision = precision
        dtype = torch.bfloat16 if precision == "mixed" else torch.float32
        self.kernels = _choose_kernels(kernels, self.device, dtype)
        product = onednn_product if self.kernels == "onednn" else F.linear
        sizes = _ON_CPU if self.device.type == "cpu" else _ON_CARD
        with self._quietly():
            self._tower = FastTower(enformer, product, chunk=sizes["chunk"])
            self._transformer = FastTransformer(
                enformer, product, dtype=dtype, queries=sizes["queries"]
            )
            self._final_norm = Norm(enformer.final.norm)
        self._product = product

    def predict(
        self,
        sequence: Tensor,
        *,
        tracks: Tracks | None = None,
        bins: Sequence[int] | None = None,
        crop: int | None = None,
        embeddings: bool = False,
    ) -> dict[str, Tensor]:
        """Predict tracks; only what is asked for is computed.

        Parameters
        ----------
        sequence
            As for :meth:`Enformer.forward <glm.models.enformer.Enformer.forward>`.
        tracks
            Head to its tracks, for instance ``{"human": [41, 4_980]}`` or ``{"human": None}``;
            ``None`` is all of all heads.
        bins
            Bins of the output, counted after the crop, in any order; ``None`` is all.
        crop
            Bins to cut from each end; ``None`` is ``config.crop``.
        embeddings
            Also return what the heads read.

        Returns
        -------
        float32: head to batch × bins × tracks; with ``embeddings``, also ``"embeddings"``, batch ×
        bins × ``config.embedding_size``.

        Raises
        ------
        KeyError
            If the model has no such head.
        ValueError
            If there is no such track or bin, the sequence is none, or too short for the crop.
        """
        check_sequence(sequence)
        asked = self._check_tracks(tracks)
        wanted = self._check_bins(sequence.shape[1], bins, crop)
        out = self._empty((len(sequence), len(wanted)), asked, embeddings)
        for i, one in enumerate(sequence):
            hidden = self.tower(one)
            with self._quietly():
                self._finish(hidden, wanted, asked, {name: x[i] for name, x in out.items()})
        return out

    def tower(self, sequence: Tensor) -> Tensor:
        """Compute what stem and tower make of one sequence, length or length × 4.

        Returns
        -------
        float32, bins × ``config.channels``; what the transformer blocks read.
        """
        self.config.n_bins(len(sequence), 0)
        with self._quietly():
            like = self.enformer.stem.conv.weight
            return self._tower(as_one_hot(sequence[None], like)[0].contiguous())

    def predict_shifted(
        self,
        stretch: Tensor,
        starts: Sequence[int],
        length_bp: int,
        *,
        tracks: Tracks | None = None,
        bins: Sequence[int] | None = None,
        crop: int | None = None,
        embeddings: bool = False,
    ) -> Iterator[dict[str, Tensor]]:
        """Predict windows of one stretch that lie whole bins apart.

        Stem and tower run once where windows overlap, and again only on the ends of each: the same
        bins come out but for the 3 at each end, where a window is padded with zeros.

        Parameters
        ----------
        stretch
            One sequence, length or length × 4, that holds all windows.
        starts
            Where each window starts in it; any two differ by a multiple of 128.
        length_bp
            Bases of a window, a multiple of 128.
        tracks, bins, crop, embeddings
            As for :meth:`predict`.

        Returns
        -------
        An iterator that computes, for each window in turn, what :meth:`predict` returns, without
        the axis of the batch. Windows share most when they come in ascending order.

        Raises
        ------
        As :meth:`predict`; ``ValueError`` also if a window does not lie inside the stretch, or a
        part of a bin from the first.
        """
        check_sequence(stretch[None])
        starts = [int(start) for start in starts]
        _check_starts(starts, length_bp, len(stretch))
        asked = self._check_tracks(tracks)
        wanted = self._check_bins(length_bp, bins, crop)

        def windows() -> Iterator[dict[str, Tensor]]:
            for hidden in self._towers(stretch, starts, length_bp):
                out = self._empty((len(wanted),), asked, embeddings)
                with self._quietly():
                    self._finish(hidden.clone(), wanted, asked, out)  # the next one needs it too
                yield out

        return windows()

    def _towers(self, stretch: Tensor, starts: list[int], length_bp: int) -> Iterator[Tensor]:
        """Of each window what the tower makes, from that of the window before where it can be."""
        n_bins, edge = length_bp // BIN_BP, _EDGE * BIN_BP
        hidden, before = stretch.new_empty(0), 0
        for start in starts:
            shift, stop = (start - before) // BIN_BP, start + length_bp
            if not len(hidden) or not 0 <= shift < n_bins - 2 * _EDGE:
                hidden = self.tower(stretch[start:stop])
            else:
                left = self.tower(stretch[start : start + 2 * edge])[:_EDGE]
                right = self.tower(stretch[stop - shift * BIN_BP - 2 * edge : stop])[_EDGE:]
                hidden = torch.cat([left, hidden[shift + _EDGE : n_bins - _EDGE], right])
            before = start
            yield hidden

    def _finish(
        self, hidden: Tensor, bins: list[int], tracks: _Wanted, out: Mapping[str, Tensor]
    ) -> None:
        """Fill ``out`` from what the tower made, which is changed."""
        asked = sorted(set(bins))
        if not asked:
            return
        read = self._read(self._transformer(hidden, asked))
        if asked != bins:
            place = {number: i for i, number in enumerate(asked)}
            read = read[[place[number] for number in bins]]
        if EMBEDDINGS in out:
            out[EMBEDDINGS].copy_(read)
        for name, index in tracks.items():
            head = cast(nn.Linear, self.enformer.heads[name])
            weight, bias = head.weight.detach(), head.bias.detach()
            if index is not None:
                weight, bias = weight[index], bias[index]
            if len(weight):
                out[name].copy_(F.softplus(self._product(read, weight, bias)))

    def _read(self, hidden: Tensor) -> Tensor:
        """What the heads read. ``silu`` of 1.702x is 1.702 times the activation."""
        final = self.enformer.final.conv
        normed = self._final_norm(hidden).div_(GELU_SLOPE)
        read = self._product(normed, final.weight[..., 0], final.bias)
        return F.silu(read.mul_(GELU_SLOPE), inplace=True).div_(GELU_SLOPE)

    def _empty(
        self, shape: tuple[int, ...], tracks: _Wanted, embeddings: bool
    ) -> dict[str, Tensor]:
        widths = {
            name: self.config.heads[name] if index is None else len(index)
            for name, index in tracks.items()
        }
        if embeddings:
            widths[EMBEDDINGS] = self.config.embedding_size
        return {
            name: torch.empty(*shape, width, device=self.device) for name, width in widths.items()
        }

    def _check_tracks(self, tracks: Tracks | None) -> _Wanted:
        if tracks is None:
            return dict.fromkeys(self.config.heads)
        if not isinstance(tracks, Mapping):
            raise TypeError(
                f"tracks is a {type(tracks).__name__}, expected heads to their tracks, for "
                f"instance {{{next(iter(self.config.heads), 'human')!r}: [0, 1]}}."
            )
        found: _Wanted = {}
        for name in self.enformer.check_heads(tracks):
            index, n = tracks[name], self.config.heads[name]
            found[name] = None if index is None else _places(f"tracks of {name!r}", index)
            wrong = [i for i in found[name] or () if not 0 <= i < n]
            if wrong:
                raise ValueError(f"head {name!r} has tracks 0 to {n - 1:,}, not {_some(wrong)}.")
        return found

    def _check_bins(
        self, length_bp: int, bins: Sequence[int] | None, crop: int | None
    ) -> list[int]:
        """Bins of the uncropped output."""
        n_bins = self.config.n_bins(length_bp, crop)
        crop = self.config.crop if crop is None else crop
        asked = _places("bins", range(n_bins) if bins is None else bins)
        wrong = [number for number in asked if not 0 <= number < n_bins]
        if wrong:
            raise ValueError(
                f"the output has bins 0 to {n_bins - 1:,} ({length_bp:,} bases, {crop} bins cut "
                f"from each end), not {_some(wrong)}."
            )
        return [crop + number for number in asked]

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Without gradients, and in the types that are written here."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            yield


def _places(what: str, given: Any) -> list[int]:
    """Whole numbers; a mask or a text would be taken for some."""
    plain = given.tolist() if hasattr(given, "tolist") else given
    listed: list[Any] = list(plain) if isinstance(plain, Iterable) else [None]
    if not all(map(is_whole, listed)):
        raise TypeError(f"{what} is {given!r}, expected whole numbers in a list.")
    return [int(number) for number in listed]


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (", …" if len(numbers) > 5 else "")


def _choose_kernels(kernels: str, device: torch.device, dtype: torch.dtype) -> str:
    works = device.type == "cpu" and onednn_works(torch.float32) and onednn_works(dtype)
    if kernels == "onednn" and not works:
        raise RuntimeError(
            f"kernels='onednn' with {dtype} needs a CPU and a PyTorch whose oneDNN has it."
        )
    pays = dtype == torch.bfloat16 or float32_pays()
    return "onednn" if kernels == "onednn" or (kernels == "auto" and works and pays) else "torch"


def _check_starts(starts: list[int], length_bp: int, total_bp: int) -> None:
    outside = [s for s in starts if not 0 <= s <= total_bp - length_bp]
    if outside:
        raise ValueError(
            f"{len(outside)} windows of {length_bp:,} bases do not lie inside the stretch of "
            f"{total_bp:,} (the first starts at {outside[0]:,})."
        )
    between = [s for s in starts if (s - starts[0]) % BIN_BP]
    if between:
        raise ValueError(
            f"{len(between)} windows do not start a multiple of {BIN_BP} bases from the first "
            f"({starts[0]:,}; one starts at {between[0]:,}): they share no bins. Predict them "
            "one by one."
        )
