"""``tokenizer.json`` of byte pairs: what is read of it, what is refused, what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_BASES = frozenset("ACGTN")
_NAMES = {"<s>": "bos", "</s>": "eos"}

# What leaves a text of bases alone. (A division into words: bases are one word.)
_NORMALISERS = ("NFC", "NFD", "NFKC", "NFKD", "Strip", "StripAccents")
_DIVISIONS = ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")

_Read = tuple[tuple[str, ...], tuple[tuple[str, str], ...], dict[str, int], bool]


def read_tokenizer(content: Mapping[str, Any], name: str) -> _Read:
    """Pieces by id, merges, specials by name, and whether unknown bases are fused."""
    model = content.get("model") if isinstance(content, Mapping) else None
    model = model if isinstance(model, Mapping) else {}
    _check_model(model, name)
    _check_steps(content, "normalizer", _NORMALISERS, name)
    _check_steps(content, "pre_tokenizer", _DIVISIONS, name)
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    if caught := [text for text in added if text and set(text) <= _BASES]:
        raise ValueError(
            f"{name} takes {caught[0]!r} out of a text before anything is merged (added_tokens); "
            "expected added tokens that are no bases."
        )
    pieces = _pieces({**model["vocab"], **added}, name)
    merges = [_parts(merge, name) for merge in model["merges"]]
    kept = tuple((left, right) for left, right in merges if left and right)
    return pieces, kept, _special(added, model, name), bool(model.get("fuse_unk"))


def _check_model(model: Mapping[str, Any], name: str) -> None:
    # Older files do not say the type: what has merges is BPE.
    kind = model.get("type") or ("BPE" if "merges" in model else None)
    if kind != "BPE" or "vocab" not in model or "merges" not in model:
        raise ValueError(f"{name} holds a model of type {kind}; expected BPE, a list of merges.")
    odd = {
        key: model[key]
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
        if model.get(key)
    }
    if odd:
        raise ValueError(
            f"{name} sets {odd}, which changes tokens in a way that is not followed here; expected "
            "plain merges."
        )
    if model.get("unk_token") is None or model["unk_token"] not in model["vocab"]:
        raise ValueError(
            f"{name} has the unknown token {model.get('unk_token')!r}, which is not in its "
            "vocabulary; without one a base that is not known would be dropped and spans shift."
        )


def _check_steps(content: Mapping[str, Any], part: str, known: Sequence[str], name: str) -> None:
    """Refuse what may change a text of bases before it is merged."""
    step = content.get(part)
    if not step:
        return
    inner = step.get("normalizers") or step.get("pretokenizers") or [step]
    for each in inner:
        kind = each.get("type")
        if kind == "BertNormalizer" and part == "normalizer" and not each.get("lowercase", True):
            continue
        if kind not in known:
            raise ValueError(
                f"{name} has the {part} {kind}, which may change a text of bases; expected none, "
                f"or of {', '.join(known)}."
            )


def _pieces(vocabulary: Mapping[str, int], name: str) -> tuple[str, ...]:
    by_id = sorted(vocabulary.items(), key=lambda item: item[1])
    while by_id and not by_id[-1][0]:
        by_id.pop()
    for expected, (piece, found) in enumerate(by_id):
        if found != expected:
            raise ValueError(
                f"{name} has the piece {piece!r} at id {found}, and expected is {expected}: ids go "
                "from 0 without gaps and repeats."
            )
    return tuple(piece for piece, _ in by_id)


def _parts(merge: str | Sequence[str], name: str) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else list(merge)
    if len(parts) != 2:
        raise ValueError(f"{name} has the merge {merge!r}; expected two pieces: 'A C' or [A, C].")
    return parts[0], parts[1]


def _special(added: Mapping[str, int], model: Mapping[str, Any], name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for text, token in {**added, model["unk_token"]: model["vocab"][model["unk_token"]]}.items():
        short = _NAMES.get(text, text.strip("[]<>|").lower())
        if text == model["unk_token"]:
            short = "unk"
        if short in found:
            raise ValueError(f"{name} has two special tokens that are {short!r}; {text!r} is one.")
        found[short] = token
    return dict(sorted(found.items(), key=lambda item: item[1]))


def write_tokenizer(
    pieces: Sequence[str],
    merges: Sequence[tuple[str, str]],
    special: Mapping[str, int],
    *,
    fuse: bool,
) -> dict[str, Any]:
    """A whole ``tokenizer.json`` as plain values."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(pieces[token], token) for token in special.values()],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": _frame(pieces, special),
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": pieces[special["unk"]],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": fuse,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: token for token, piece in enumerate(pieces)},
            "merges": [[left, right] for left, right in merges],
        },
    }


def _added_token(text: str, token: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token, "content": text, **flags, "special": True}


def _frame(pieces: Sequence[str], special: Mapping[str, int]) -> dict[str, Any] | None:
    """``[CLS] text [SEP]``, where there are these two."""
    if not {"cls", "sep"} <= special.keys():
        return None

    def said(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": pieces[special[name]], "type_id": 0}}

    def text(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    names = {pieces[special[name]]: special[name] for name in ("cls", "sep")}
    return {
        "type": "TemplateProcessing",
        "single": [said("cls"), text("A", 0), said("sep")],
        "pair": [said("cls"), text("A", 0), said("sep"), text("B", 1), said("sep")],
        "special_tokens": {
            name: {"id": name, "ids": [token], "tokens": [name]} for name, token in names.items()
        },
    }
