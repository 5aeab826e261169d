"""Weights of the published PyTorch Enformer in and out, by a literal table, strict both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor

from .enformer import Enformer
from .enformer_config import N_TOWER_LAYERS, EnformerConfig
from .weights import refuse_not_finite

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_BOTH = ("weight", "bias")

#: Published name to ours in :class:`~glm.models.enformer.Enformer`, and what each holds. ``{i}`` is
#: the tower layer or transformer block, ``{head}`` the name of a head.
ENFORMER_KEYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "stem.0": ("stem.conv", _BOTH),
    "stem.1.fn.0": ("stem.mix.norm", _NORM),
    "stem.1.fn.2": ("stem.mix.conv", _BOTH),
    "stem.2.to_attn_logits": ("stem.pool.logits", ("weight",)),
    "conv_tower.{i}.0.0": ("tower.{i}.conv.norm", _NORM),
    "conv_tower.{i}.0.2": ("tower.{i}.conv.conv", _BOTH),
    "conv_tower.{i}.1.fn.0": ("tower.{i}.mix.norm", _NORM),
    "conv_tower.{i}.1.fn.2": ("tower.{i}.mix.conv", _BOTH),
    "conv_tower.{i}.2.to_attn_logits": ("tower.{i}.pool.logits", ("weight",)),
    "transformer.{i}.0.fn.0": ("blocks.{i}.attention_norm", _BOTH),
    "transformer.{i}.0.fn.1.to_q": ("blocks.{i}.attention.query", ("weight",)),
    "transformer.{i}.0.fn.1.to_k": ("blocks.{i}.attention.key", ("weight",)),
    "transformer.{i}.0.fn.1.to_v": ("blocks.{i}.attention.value", ("weight",)),
    "transformer.{i}.0.fn.1.to_out": ("blocks.{i}.attention.output", _BOTH),
    "transformer.{i}.0.fn.1.to_rel_k": ("blocks.{i}.attention.position_key", ("weight",)),
    "transformer.{i}.0.fn.1.rel_content_bias": ("blocks.{i}.attention.content_bias", ()),
    "transformer.{i}.0.fn.1.rel_pos_bias": ("blocks.{i}.attention.position_bias", ()),
    "transformer.{i}.1.fn.0": ("blocks.{i}.norm", _BOTH),
    "transformer.{i}.1.fn.1": ("blocks.{i}.up", _BOTH),
    "transformer.{i}.1.fn.4": ("blocks.{i}.down", _BOTH),
    "final_pointwise.1.0": ("final.norm", _NORM),
    "final_pointwise.1.2": ("final.conv", _BOTH),
    "_heads.{head}.0": ("heads.{head}", _BOTH),
}

#: The published file holds the trunk a second time, as one sequence. These are dropped on purpose,
#: after a look that they are the same.
TRUNK_AGAIN: dict[str, str] = {
    "_trunk.1.": "stem.",
    "_trunk.2.": "conv_tower.",
    "_trunk.4.": "transformer.",
    "_trunk.6.": "final_pointwise.",
}

_POOL = ".to_attn_logits.weight"  # published as a two-dimensional convolution, ours has one
_COUNT = ".num_batches_tracked"
_SHOWN = 5


def load_enformer(state: Mapping[str, Tensor], config: EnformerConfig) -> Enformer:
    """Build an Enformer from published weights, refusing anything that does not fit exactly.

    Parameters
    ----------
    state
        Tensors named as in the published PyTorch checkpoint, with or without the second copy of the
        trunk. Lower precision is raised to float32; float32 tensors are used as they are, so the
        module shares their memory.
    config
        The shape to expect.

    Returns
    -------
    In evaluation mode, on the CPU.

    Raises
    ------
    RuntimeError
        If tensors are missing, unknown, of another shape or not numbers, or a second copy differs.
    """
    names = _names(config)
    published = _without_copies(state)
    _refuse_misfits(published.keys(), names.keys(), config)
    with torch.device("meta"):  # no random weights to make, none to be left behind
        network = Enformer(config)
    _refuse_shapes(published, to_published_enformer(network))
    ours = {}
    for name, own in names.items():
        kind = torch.int64 if name.endswith(_COUNT) else torch.float32
        tensor = published[name].to("cpu", kind)
        ours[own] = tensor.squeeze(-1) if name.endswith(_POOL) else tensor
    refuse_not_finite(ours)
    network.load_state_dict(ours, strict=True, assign=True)
    return network.requires_grad_(True).eval()


def to_published_enformer(model: Enformer) -> dict[str, Tensor]:
    """Name a network's weights as published, without the second copy of the trunk.

    Returns
    -------
    Published name to tensor, detached, sharing the module's memory.
    """
    state = model.state_dict()
    return {
        name: state[own].unsqueeze(-1) if name.endswith(_POOL) else state[own]
        for name, own in _names(model.config).items()
    }


def _names(config: EnformerConfig) -> dict[str, str]:
    """Published name to the name in our network, for every layer and head."""
    table: dict[str, str] = {}
    for published, (ours, parts) in ENFORMER_KEYS.items():
        for instead in _instances(published, config):
            for part in parts or ("",):
                suffix = f".{part}" if part else ""
                name = published.format_map(instead) + suffix
                table[name] = ours.format_map(instead) + suffix
    return table


def _instances(published: str, config: EnformerConfig) -> list[dict[str, str]]:
    if "{head}" in published:
        return [{"head": name} for name in config.heads]
    if "{i}" not in published:
        return [{}]
    count = N_TOWER_LAYERS if published.startswith("conv_tower") else config.depth
    return [{"i": str(i)} for i in range(count)]


def _without_copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    published, differ = {}, []
    for name, tensor in state.items():
        prefix = next((p for p in TRUNK_AGAIN if name.startswith(p)), None)
        if prefix is None:
            published[name] = tensor
            continue
        first = TRUNK_AGAIN[prefix] + name.removeprefix(prefix)
        if first not in state:
            published[name] = tensor  # a copy of nothing is unknown
        elif not torch.equal(tensor, state[first]):
            differ.append(f"{name} and {first}")
    if differ:
        raise RuntimeError(
            f"{len(differ)} tensors that the file holds twice differ ({_some(differ)}): the file "
            "is damaged, or was put together from two trainings."
        )
    return published


def _refuse_misfits(found: Set[str], wanted: Set[str], config: EnformerConfig) -> None:
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (("missing", wanted - found), ("unknown", found - wanted))
        if names
    ]
    if problems:
        heads = ", ".join(config.heads) or "none"
        raise RuntimeError(
            f"these weights are not those of an Enformer with {config.depth} blocks and the heads "
            f"{heads} as asked for: tensors {' and '.join(problems)}. Check the model's name and "
            "its configuration."
        )


def _refuse_shapes(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if found[name].shape != tensor.shape
    ]
    if wrong:
        raise RuntimeError(
            f"{len(wrong)} tensors have another shape than the configuration asks for: "
            f"{'; '.join(wrong[:_SHOWN])}{'; …' if len(wrong) > _SHOWN else ''}. "
            "Check that the weights, the tracks and the configuration belong together."
        )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
