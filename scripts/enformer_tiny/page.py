"""The page of evidence, as Markdown."""

from __future__ import annotations

from textwrap import fill
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
    n = {head: result[head]["windows"]["train"] for head in ("human", "mouse")}
    lines = [
        "# enformer-tiny",
        "",
        _paragraph(
            "A demonstration: a small model of Enformer's kind that comes with the package, so "
            "that examples and tests run offline. It was trained on "
            f"{n['human']} windows of the human genome and {n['mouse']} of the mouse's; Enformer "
            "on 34,021 and 29,295. **Do not draw conclusions from its tracks, nor from anything "
            'computed of them.** Every record it leaves says `tier: "demo"`. Printed as it came '
            "out by `scripts/score_enformer_tiny.py`."
        ),
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
        *_cross_validation(result.get("cross_validation"), result["model"]["card"]["kept_step"]),
        "",
        "## To do it again",
        "",
        "```",
        "python scripts/make_enformer_tiny.py --work build/enformer-tiny",
        "python scripts/score_enformer_tiny.py",
        "```",
        "",
        _paragraph(
            "The data are looked for in the folder that `GLM_TEST_DATA` names, as `enformer/tiny`. "
            "Other processors round differently, so weights made again are alike, not equal."
        ),
        "",
    ]
    return "\n".join(lines)


def _paragraph(text: str, begin: str = "") -> str:
    return fill(begin + text, 90, subsequent_indent=" " * len(begin), break_on_hyphens=False)


def _short(result: dict[str, Any]) -> list[str]:
    lines = []
    for head in ("human", "mouse"):
        found = result[head]["test"]
        for other, told in _TOLD.items():
            where = _where(found["gains"][other])
            n = found["n_windows"]
            lines.append(f"- {head.capitalize()}, {n} test windows, against {told}: {where}.")
    if found := result.get("cross_validation"):
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
        _paragraph(
            "The small training set in the Basenji format that calico/baskerville keeps for its "
            "own tests (Apache-2.0): windows of 131,072 bp of hg38 and mm10 with tracks in bins of "
            "32 bp of their middle 65,536 bp. `glm.train.read_track_windows` joins them to the 512 "
            "bins of 128 bp that an Enformer predicts: CAGE and RNA are stored as the root of one "
            "plus a sum, less one; that is undone, the sums are added, and it is done again. DNase "
            "is a mean. RNA3 is single-cell RNA, the ends of transcripts."
        ),
        "",
        "| | training | validation | test | tracks |",
        "|---|---|---|---|---|",
    ]
    for head in ("human", "mouse"):
        found = result[head]
        n = [f"{found['windows'][part]}" for part in ("train", "valid", "test")]
        tracks = ", ".join(f"{n} {assay}" for assay, n in found["tracks"].items())
        lines.append(f"| {head} | {' | '.join(n)} | {tracks} |")
    told = (
        "No two windows share a base. CAGE and most RNA have a track for each strand; the two are "
        "swapped where a window is read as its reverse complement."
    )
    return [*lines, "", _paragraph(told)]


def _model(result: dict[str, Any]) -> list[str]:
    model, card = result["model"], result["model"]["card"]
    shape, recipe, cut = model["shape"], card["recipe"], card["pieces"]
    return [
        _paragraph(
            f"An Enformer in small: {shape['channels']} channels, {shape['depth']} blocks, "
            f"{shape['n_heads']} heads of attention, dropout {shape['dropout']:g}; "
            f"{model['parameters']:,} parameters, kept as float16. Window {model['window_bp']:,} "
            f"bp, output {model['output_bp']:,} bp."
        ),
        "",
        _paragraph(
            "Trained by `glm.train.fit_tracks` on pieces of the training windows, side by side: "
            f"{cut['bins']} bins that count, {cut['bins_on_either_side']} more on either side, "
            f"{cut['bp']:,} bp together. A batch of pieces holds several places of the genome, "
            "which the norms over the batch ask for; whole windows one by one taught far less in "
            "the same time. So nothing beyond a piece was learnt from, although whole windows are "
            "read: do not expect distant enhancers of it."
        ),
        "",
        _paragraph(
            f"{recipe['max_steps']:,} steps of {recipe['rows_per_batch']} pieces, human and mouse "
            "in turn, moved by at most 3 bp and read from either strand; Poisson loss, AdamW at "
            f"{recipe['learning_rate']:g}, {recipe['warmup']:g} steps of warm-up, then linear to "
            f"zero, decay {recipe['weight_decay']:g}. It began with random weights, its outputs "
            "at the mean of each track. Kept is what was best on the validation windows, after "
            f"step {card['kept_step']:,}. Shape, pieces, learning rate and length were chosen by "
            "the validation windows too, from short "
            "trials. The test windows were scored twice, for an earlier version and for this one. "
            "A shorter run was tried after that; the validation windows said less of it, and it "
            "was dropped unscored."
        ),
    ]


def _how() -> list[str]:
    widths = ", ".join(map(str, GC_BINS))
    places = ["the bin" if width == 1 else f"the {width} bins around it" for width in KMER_BINS]
    return [
        _paragraph(
            "Pearson's correlation of predicted and measured values of a track over all bins of "
            "all windows, then the mean over the tracks of an assay. Values are compared as the "
            "model predicts them, roots included. One pass over the + strand, no averaging. Tracks "
            "that are the same in all bins have no correlation and are left out."
        ),
        "",
        _paragraph(
            f"*ridge*: least squares with a penalty on the shares of GC and CpG over {widths} bins "
            f"around each and the k-mers in {' and in '.join(places)}; trained on the same "
            f"windows, read from both strands. k ({', '.join(map(str, KMER_SIZES))}) and the "
            "penalty were chosen for each assay by the validation windows.",
            "- ",
        ),
        _paragraph("*untrained twin*: the same network with random weights.", "- "),
        _paragraph(
            "*constant*: the mean of the training windows; it correlates with nothing.", "- "
        ),
        "",
        _paragraph(
            f"Intervals (95%): {DRAWS:,} draws of the windows with replacement, whole windows at a "
            "time, the same draws for everyone. A bold gain is one whose interval is above zero. "
            "Ten windows are few, and a handful of promoters decides most of a correlation."
        ),
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


def _cross_validation(found: dict[str, Any] | None, kept: int) -> list[str]:
    if found is None:
        return ["Not run: `python scripts/score_enformer_tiny.py --part cross-validation`."]
    return [
        _paragraph(
            f"All {found['n_windows']} human windows in {found['folds']} folds, drawn at random; "
            "each is predicted by a model that was trained on the other folds, on human windows "
            "alone (a mouse window may be the counterpart of a held-out human one), for "
            f"{found['steps']:,} steps; the bundled model took {kept:,} to the state that was "
            "kept, half of them human. What is scored is the method with less training, not the "
            "bundled weights. Settings are those that the validation windows chose, for the model "
            "as for the ridge, and these windows are among the ones scored. "
            "Correlations are over the windows of a fold, then the mean over folds; windows are "
            "drawn within their folds."
        ),
        "",
        *_scores(found),
    ]
