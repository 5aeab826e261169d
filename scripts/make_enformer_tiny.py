"""Make the bundled demonstration model `enformer-tiny` from real DNA and tracks.

    python scripts/make_enformer_tiny.py --work build/enformer-tiny

The data (windows of hg38 and mm10 in the Basenji format) are looked for in GLM_TEST_DATA. It
learns from the parts `train`; the parts `valid` choose the epoch that is kept. The run can be
stopped and goes on from its last checkpoint; the finished model is written into the package, and
its card with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import warnings
from pathlib import Path

from enformer_tiny.data import GENOMES, read_windows
from enformer_tiny.making import BINS, BUNDLED, FLANK, NAME, RECIPE, STEPS, train

from glm.models._verify_tracks import record_expected_tracks
from glm.models.enformer_config import BIN_BP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--out", type=Path, default=BUNDLED / NAME, help="folder of the bundle")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    windows = {head: read_windows(head, "train") for head in GENOMES}
    watched = [read_windows(head, "valid") for head in GENOMES]
    model = train(windows, folder=options.work, steps=options.steps, watched=watched)
    recipe = dataclasses.replace(RECIPE, max_steps=options.steps)
    card = {
        "data": "train windows of hg38 and mm10 (calico/baskerville, tests/data/tiny), Apache-2.0",
        "windows": {head: len(some) for head, some in windows.items()},
        "pieces": {"bins": BINS, "bins_on_either_side": FLANK, "bp": BIN_BP * (BINS + 2 * FLANK)},
        "start": "random weights; outputs begin at the mean of each track",
        "objective": "Poisson; shifts of at most 3 bp, either strand; human and mouse in turn",
        "recipe": dataclasses.asdict(recipe),
        "kept_by": "mean correlation over tracks on the validation windows, after every epoch",
        **model.card,
    }
    model.save(options.out, card=card, half=True)
    record_expected_tracks(options.out, card="on the machine that trained it, float32")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
