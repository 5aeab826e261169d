"""The page of evidence, as Markdown."""

from __future__ import annotations

from typing import Any

from evidence.statistics import DRAWS

from dna_tiny.baselines import SPAN
from dna_tiny.next_kmers import LENGTH_BP
from dna_tiny.places import APART, PIECE_BP

_NAMES = ("dnabert-tiny", "grover-tiny")


def page(result: dict[str, Any]) -> str:
    """The whole page."""
    lines = [
        "# dnabert-tiny and grover-tiny",
        "",
        "Demonstrations: small models of DNABERT's and GROVER's kind that come with the package,",
        "so that examples and tests run offline. **Do not draw conclusions from their",
        'embeddings.** Every record they leave says `tier: "demo"`. Printed as it came out by',
        "`scripts/score_dna_tiny.py`.",
        "",
        "## In short",
        "",
        *_short(result),
        "",
        "## Text",
        "",
        *_text(result),
        "",
        "## Models and training",
        "",
        *[line for name in _NAMES for line in _model(name, result["models"][name])],
        "## Bits of a hidden base",
        "",
        *_bases(result["bases"]),
        "",
        f"## Bits of {SPAN} hidden bases in a row",
        "",
        *_spans(result["spans"]),
        "",
        "## Which byte pair is hidden?",
        "",
        *_tokens(result["tokens"]),
        "",
        f"## Which k bases follow {LENGTH_BP} known ones?",
        "",
        *_next(result["next"]),
        "",
        "## To do it again",
        "",
        "```",
        "python scripts/make_dnabert_tiny.py --work build/dnabert-tiny",
        "python scripts/make_grover_tiny.py --work build/grover-tiny",
        "python scripts/score_dna_tiny.py",
        "```",
        "",
        "The data are looked for in the folder that `GLM_TEST_DATA` names: `enformer/tiny/hg38`",
        "(the small training set in the Basenji format of calico/baskerville, Apache-2.0) and",
        "`gue` (the tables of the GUE benchmark, Apache-2.0). Each training takes some ten minutes",
        "of one core and goes on where it was stopped; other processors round differently, so",
        "weights made again are alike, not equal.",
        "",
    ]
    return "\n".join(lines)


def _short(result: dict[str, Any]) -> list[str]:
    lines = []
    for name in _NAMES:
        found = result["bases"]["gains"][name]
        told = "; ".join(f"{label}: {gain['verdict']}" for label, gain in found.items())
        lines.append(f"- A hidden base, `{name}` against {told}.")
        rows = result["next"]["gains"]
        told = "; ".join(
            f"{label}: {_where(label, name, rows)}" for label in next(iter(rows.values()))[name]
        )
        lines.append(f"- The next k bases, a linear probe on `{name}` against {told}.")
    return lines


def _where(label: str, name: str, rows: dict[str, Any]) -> str:
    """At which k it beat the other, and at which it did not."""
    better = [k for k, row in rows.items() if row[name][label]["verdict"] == "beat it"]
    others = [k for k in rows if k not in better]
    parts = [
        f"{what} at k = {', '.join(ks)}"
        for what, ks in (("beat it", better), ("did not beat it", others))
        if ks
    ]
    return ", ".join(parts)


def _text(result: dict[str, Any]) -> list[str]:
    c = result["text"]
    kept = c["bases_of_windows_kept"] + c["bases_of_rows_kept"]
    return [
        f"The {c['windows']} training windows of hg38 (131,072 bp each) and the training rows of",
        "the GUE tables of human transcription factors and promoters, less everything that shares",
        "40 bases, on either strand, with a validation or test window or with a development or",
        "test row of any GUE table here, splice sites and mouse included",
        f"({c['held_out_words']:,} words of 40 bases, compared exactly). What is shared is cut out",
        "of a window; a row is dropped.",
        "",
        "| | found | kept |",
        "|---|---|---|",
        f"| bases of windows | {c['bases_of_windows']:,} | {c['bases_of_windows_kept']:,} in "
        f"{c['stretches_of_windows']:,} stretches |",
        f"| rows of tables | {c['rows']:,} ({c['rows_distinct']:,} distinct) | {c['rows_kept']:,} "
        f"({c['bases_of_rows_kept']:,} bases) |",
        "",
        f"{kept:,} bases in all. Many shared words lie in repeats, which the models therefore saw",
        "less of than a genome holds. Rows of either label are kept.",
    ]


def _model(name: str, found: dict[str, Any]) -> list[str]:
    shape, card = found["shape"], found["card"]
    recipe = card["recipe"]
    return [
        f"**{name}**: {shape['n_layers']} layers, width {shape['hidden_size']}, "
        f"{shape['n_heads']} heads, feed-forward {shape['intermediate_size']:,}, "
        f"{shape['vocab_size']:,} tokens,",
        f"context {shape['n_positions']}: {found['parameters']:,} parameters, kept as float16. "
        f"{recipe['max_epochs']} epochs of",
        f"{card['bases_an_epoch']:,} bases drawn anew, {card['share_of_windows']:.0%} of them from "
        "windows, either strand; sentences of 20 to 510",
        f"tokens; batches of {recipe['tokens_per_batch']:,} tokens, AdamW at "
        f"{recipe['learning_rate']}, {recipe['warmup']:.0f} steps of warm-up, then linear to zero. "
        f"Objective: {card['objective']};",
        f"share {card['mask_share']:.0%}. Start: {card['start']}; all of it is trained on.",
        "",
    ]


def _bases(found: dict[str, Any]) -> list[str]:
    chosen = found["chosen"]
    return [
        f"{found['n']:,} bases of the {found['windows']} test windows, {APART} bases apart in",
        f"pieces of {PIECE_BP}, the same for all. Lower is better; 2 is knowing nothing.",
        "",
        *_table(found["bits"], "bits per base", lambda label: _how(chosen.get(label, {}))),
        "",
        "- *Two-sided order k*: how often each base stands between the k bases before and the k",
        "  after it in the same training text, both strands, a constant added to every count. The",
        "  smoothed one adds what order k - 1 says instead, down to order 0. k and the constant",
        "  were chosen on validation windows.",
        "- *dnabert-tiny*: all six tokens over the base are hidden. Each of them gives a",
        "  distribution of the base: a softmax over the four 6-mers that have the five other",
        "  bases, which can be read beside the hidden tokens. *Mean* is that of six logarithms,",
        "  normalised; *place i* is the token in which the base has that place. Which way is used,",
        "  and to which power, was chosen on validation windows, for every variant by itself.",
        "- *grover-tiny*: each of the four bases is put in the place and the piece cut into tokens",
        "  anew; tokens that are not the same in all four, and those over the base, are hidden in",
        "  all four. A base's weight is the product of the probabilities of its hidden tokens, to",
        "  a power chosen on validation windows; the four are normalised.",
        "",
        *_gains(found["gains"], "bits gained"),
    ]


def _spans(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['n']:,} spans of the test windows. All eleven 6-mers that touch a span are",
        "hidden; the one over exactly the span gives the probability of its six bases at once.",
        f"Held against a Markov chain of order {found['chosen']['k']} (chosen on validation",
        "windows) that runs through every possible span into the bases behind it.",
        "",
        *_table(found["bits"], "bits per base"),
        "",
        *_gains(found["gains"], "bits gained"),
    ]


def _tokens(found: dict[str, Any]) -> list[str]:
    bits = found["bits"]
    return [
        f"{found['n']:,} tokens of the test pieces, 15% of each hidden. *Neighbours*: the token",
        "before and the one after, each by how often it stands beside the hidden one in the",
        "training text (smoothed by frequency, how strongly was chosen on validation windows),",
        "multiplied.",
        "",
        "| | named | bits per token |",
        "|---|---|---|",
        *[
            f"| {label} | {100 * found['accuracy'][label]:.2f}% | {bits[label]:.3f} |"
            for label in bits
        ],
        "",
        *_gains(found["gains"], "bits gained"),
    ]


def _next(found: dict[str, Any]) -> list[str]:
    rows = found["accuracy"]
    labels = next(iter(rows.values()))
    n = found["n"]
    return [
        "One of 4^k classes. A linear probe (least squares on the classes, its penalty chosen on",
        "validation windows) on the mean of the last layer's tokens; the model stays as it is, it",
        f"is not fine-tuned. {n['train']:,} sequences of the training windows, {n['valid']:,} of",
        f"the validation and {n['test']:,} of the test windows; the same probe for TF-IDF of",
        "k-mers. Chance is 4^-k; the most frequent k-mer of the training sequences is the better",
        "measure.",
        "",
        "| accuracy in % | " + " | ".join(f"k = {k}" for k in rows) + " |",
        "|---|" + "---|" * len(rows),
        *[
            f"| {label} | " + " | ".join(f"{100 * row[label]:.2f}" for row in rows.values()) + " |"
            for label in labels
        ],
        "",
        "| gained, in points (95%) | " + " | ".join(f"k = {k}" for k in rows) + " |",
        "|---|" + "---|" * len(rows),
        *[
            f"| {name} against {label} | "
            + " | ".join(_points(row[name][label]) for row in found["gains"].values())
            + " |"
            for name in _NAMES
            for label in next(iter(found["gains"].values()))[name]
        ],
        "",
        "**Bold**: beat it. Intervals as above; of this many comparisons, one in forty would be",
        "bold by chance alone.",
    ]


def _points(gain: dict[str, Any]) -> str:
    low, high = (f"{100 * gain[end]:+.1f}" for end in ("low", "high"))
    value = f"{100 * gain['value']:+.2f}"
    return f"**{value}** ({low} to {high})" if gain["low"] > 0 else f"{value} ({low} to {high})"


def _table(bits: dict[str, float], what: str, how: Any = None) -> list[str]:
    rows = sorted(bits.items(), key=lambda row: row[1])
    head = ["| | " + what + " | |", "|---|---|---|"] if how else [f"| | {what} |", "|---|---|"]
    return head + [
        f"| {label} | {value:.4f} |" + (f" {how(label)} |" if how else "") for label, value in rows
    ]


def _how(chosen: dict[str, Any]) -> str:
    if "k" in chosen:
        return f"k = {chosen['k']}, constant {chosen['strength']:g}"
    return chosen.get("way", "")


def _gains(gains: dict[str, Any], what: str) -> list[str]:
    return [
        f"| {what} | difference (95%) | |",
        "|---|---|---|",
        *[
            f"| {name} against {label} | {gain['value']:+.4f} ({gain['low']:+.4f} to "
            f"{gain['high']:+.4f}) | {gain['verdict']} |"
            for name, row in gains.items()
            for label, gain in row.items()
        ],
        "",
        f"Intervals: {DRAWS:,} draws of the ten windows with replacement, whole windows at a time.",
    ]
