"""The page of evidence, as Markdown."""

from __future__ import annotations

from typing import Any

from evidence.statistics import DRAWS

from enformer_tiny.ridge import GC_BINS, KMER_BINS, KMER_SIZES

OURS, RIDGE, TWIN, CONSTANT = "enformer-tiny", "ridge", "untrained twin", "constant"

_TOLD = {
    RIDGE: "ridge regression on GC, CpG and k-mers",
    TWIN: "an untrained twin",
    CONSTANT: "a constant",
}


def page(result: dict[str, Any]) -> str:
    """The whole page."""
    lines = [
        "# enformer-tiny",
        "",
        "A demonstration: a small model of Enformer's kind that comes with the package, so that",
        "examples and tests run offline. It was trained on "
        f"{result['human']['windows']['train']} windows of the human genome and "
        f"{result['mouse']['windows']['train']}",
        "of the mouse's; Enformer on 34,021 and 29,295. **Do not draw conclusions from its tracks,",
        'nor from anything computed of them.** Every record it leaves says `tier: "demo"`. Printed',
        "as it came out by `scripts/score_enformer_tiny.py`.",
        "",
        "## In short",
        "",
        *_short(result),
        "",
        "## Data",
        "",
        *_data(result),
        "",
        "## Model and training",
        "",
        *_model(result),
        "",
        "## Test windows",
        "",
        *_how(),
        "",
        *[line for head in ("human", "mouse") for line in _test(head, result[head])],
        "## Cross-validation over human windows",
        "",
        *_cross_validation(result["cross_validation"]),
        "",
        "## To do it again",
        "",
        "```",
        "python scripts/make_enformer_tiny.py --work build/enformer-tiny",
        "python scripts/score_enformer_tiny.py",
        "```",
        "",
        "The data are looked for in the folder that `GLM_TEST_DATA` names, as `enformer/tiny`.",
        "Other processors round differently, so weights made again are alike, not equal.",
        "",
    ]
    return "\n".join(lines)


def _short(result: dict[str, Any]) -> list[str]:
    lines = []
    for head in ("human", "mouse"):
        found = result[head]["test"]
        for other, told in _TOLD.items():
            where = _where(found["gains"][other])
            n = found["n_windows"]
            lines.append(f"- {head.capitalize()}, {n} test windows, against {told}: {where}.")
    found = result["cross_validation"]
    where = _where(found["gains"][RIDGE])
    lines.append(
        f"- Human, {found['n_windows']} windows in {found['folds']} folds, against "
        f"{_TOLD[RIDGE]}: {where}."
    )
    return lines


def _where(gains: dict[str, dict[str, Any]]) -> str:
    by_verdict: dict[str, list[str]] = {}
    for assay, gain in gains.items():
        by_verdict.setdefault(gain["verdict"], []).append(assay)
    return "; ".join(f"{verdict} in {', '.join(which)}" for verdict, which in by_verdict.items())


def _data(result: dict[str, Any]) -> list[str]:
    lines = [
        "The small training set in the Basenji format that calico/baskerville keeps for its own",
        "tests (Apache-2.0): windows of 131,072 bp of hg38 and mm10 with tracks in bins of 32 bp of",
        "their middle 65,536 bp. Here they are put together to the 512 bins of 128 bp that an",
        "Enformer predicts. CAGE and RNA are stored as the root of one plus a sum, less one: the",
        "root is undone, the sums are added, the root is taken again, so that a bin of 128 bp is on",
        "the same scale. DNase is a mean and is averaged. RNA3 are 3' ends of transcripts, from",
        "single cells.",
        "",
        "| | training | validation | test | tracks |",
        "|---|---|---|---|---|",
    ]
    for head in ("human", "mouse"):
        found = result[head]
        n = [f"{found['windows'][part]}" for part in ("train", "valid", "test")]
        tracks = ", ".join(f"{n} {assay}" for assay, n in found["tracks"].items())
        lines.append(f"| {head} | {' | '.join(n)} | {tracks} |")
    return [
        *lines,
        "",
        "No two windows share a base. Tracks of a pair (CAGE and most RNA have one for each strand)",
        "are swapped where a window is read as its reverse complement.",
    ]


def _model(result: dict[str, Any]) -> list[str]:
    model, card = result["model"], result["model"]["card"]
    shape = model["shape"]
    return [
        f"An Enformer in small: {shape['channels']} channels, {shape['depth']} blocks, "
        f"{shape['n_heads']} heads of attention;",
        f"{model['parameters']:,} parameters, kept as float16. Window {model['window_bp']:,} bp, "
        f"output {model['output_bp']:,} bp.",
        "",
        *card["told"],
        "",
        "The shape, the size of pieces, the learning rate and the length of training were chosen",
        "by the validation windows. The test windows were looked at once, at the end.",
    ]


def _how() -> list[str]:
    widths = ", ".join(map(str, GC_BINS))
    return [
        "Pearson's correlation of predicted and measured values of a track over all bins of all",
        "windows, then the mean over the tracks of an assay. Values are compared as the model",
        "predicts them, roots included. One pass over the + strand, no averaging. Tracks that are",
        "the same in all bins have no correlation and are left out.",
        "",
        f"- *ridge*: least squares with a penalty on the shares of GC and CpG over {widths} bins",
        "  around each and the k-mers in "
        + " and in ".join("the bin" if w == 1 else f"the {w} bins around it" for w in KMER_BINS)
        + "; trained on the same windows, read",
        f"  from both strands. k ({', '.join(map(str, KMER_SIZES))}) and the penalty were chosen "
        "for each assay by the",
        "  validation windows.",
        "- *untrained twin*: the same network with random weights.",
        "- *constant*: the mean of the training windows; it correlates with nothing.",
        "",
        f"Intervals (95%): {DRAWS:,} draws of the windows with replacement, whole windows at a",
        "time, the same draws for everyone. A bold gain is one whose interval is above zero. Ten",
        "windows are few, and a handful of promoters decides most of a correlation.",
    ]


def _test(head: str, found: dict[str, Any]) -> list[str]:
    test = found["test"]
    lines = [
        f"### {head.capitalize()}: {test['n_windows']} windows",
        "",
        *_scores(test),
        "",
        "Means of windows instead of bins (one number a window and track), same measure:",
        "",
        *_scores(test["window_means"]),
        "",
    ]
    if test["constant_tracks"]:
        lines += [f"{test['constant_tracks']} tracks are constant there and left out.", ""]
    return lines


def _scores(found: dict[str, Any]) -> list[str]:
    assays = list(found["scores"][OURS])
    lines = ["| | " + " | ".join(assays) + " |", "|---" * (len(assays) + 1) + "|"]
    for name, row in found["scores"].items():
        cells = " | ".join(_interval(row[assay], "") for assay in assays)
        lines.append(f"| {name} | {cells} |")
    for name, row in found["gains"].items():
        if name != CONSTANT:
            cells = " | ".join(_gain(row[assay]) for assay in assays)
            lines.append(f"| gained over {name} | {cells} |")
    return lines


def _interval(found: dict[str, Any], sign: str) -> str:
    value, low, high = (format(found[key], f"{sign}.3f") for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _gain(found: dict[str, Any]) -> str:
    cell = _interval(found, "+")
    if found["low"] > 0:
        return f"**{cell}**"
    return f"{cell}: {found['verdict']}"


def _cross_validation(found: dict[str, Any]) -> list[str]:
    return [
        f"All {found['n_windows']} human windows in {found['folds']} folds, drawn at random; each "
        "is predicted by a model",
        f"that was trained on the other folds, human windows alone (a mouse window may be the "
        f"counterpart",
        f"of a held-out human one), for {found['steps']:,} steps where the bundled model had "
        f"{found['of_steps']:,}:",
        "what is scored is the method, with less training, not the bundled weights. Settings of",
        "either side are those that the validation windows chose, which are among the windows",
        "scored here.",
        "",
        *_scores(found),
    ]
