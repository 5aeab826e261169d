"""Make the bundled demonstration model `dnabert-tiny` from real DNA.

    python scripts/make_dnabert_tiny.py --work build/dnabert-tiny

The DNA (windows of hg38 in the Basenji format, tables of GUE) is looked for in GLM_TEST_DATA. What
shares 40 bases with any dev or test sequence is left out. The run can be stopped and goes on from
its last checkpoint; the finished model is written into the package, and its card with it.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from dna_tiny.making import make as make_bundle
from dna_tiny.making import new_model, options_of, started
from dna_tiny.starts import kmer_start
from dna_tiny.text import Text

from glm.models import KmerVocabulary, Model
from glm.train import KmerSpans

NAME = "dnabert-tiny"
K = 6
BASES_AN_EPOCH = 550_000
EPOCHS = 12
NOTE = (
    "A small model for examples and tests, trained for some minutes on 17 million bases: not for "
    "research."
)
WORDS = {
    "start": "tokens tell their six bases, positions are waves, heads of the first two layers look "
    "at the three tokens on either side",
    "objective": "runs of 6 hidden 6-mers, as DNABERT's",
}

untrained = partial(new_model, NAME, note=NOTE)


def build(text: Text) -> Model:
    """The model at its starting point."""
    vocabulary = KmerVocabulary(K)
    tokens, _, _ = vocabulary.encode(text.codes, text.offsets)
    letters = np.array([["ATCG".index(base) for base in piece] for piece in vocabulary.pieces])
    start = kmer_start(letters, len(vocabulary.special))
    return started(untrained(vocabulary), start, tokens)


def main() -> None:
    make_bundle(
        options_of(__doc__.split("\n")[0], NAME, epochs=EPOCHS),
        build,
        lambda model: KmerSpans(model.vocabulary, k=K),
        bases_an_epoch=BASES_AN_EPOCH,
        words=WORDS,
    )


if __name__ == "__main__":
    main()
