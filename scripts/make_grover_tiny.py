"""Make the bundled demonstration model `grover-tiny` from real DNA.

    python scripts/make_grover_tiny.py --work build/grover-tiny

The text is that of `make_dnabert_tiny.py`; its 600 merges are learnt from it. The run can be
stopped and goes on from its last checkpoint; the finished model is written into the package, and
its card with it.
"""

from __future__ import annotations

from functools import partial

from dna_tiny.making import make as make_bundle
from dna_tiny.making import new_model, options_of, started
from dna_tiny.starts import pair_start
from dna_tiny.text import Text

from glm.encode import learn_merges
from glm.models import Model, PairVocabulary
from glm.train import MaskedTokens

NAME = "grover-tiny"
N_MERGES = 600
BASES_AN_EPOCH = 2_200_000
EPOCHS = 5
MASK_SHARE = 0.15
NOTE = (
    "A small model for examples and tests, its 600 merges learnt from and trained for some minutes "
    "on 17 million bases: not for research."
)
WORDS = {
    "start": "tokens tell how often they stand beside each other, positions are waves, heads of "
    "the first layer look at the token on either side",
    "objective": "hidden tokens, of which 80% are shown as the mask and 20% as another token, as "
    "GROVER's; but more of them",
}

untrained = partial(new_model, NAME, note=NOTE)


def build(text: Text) -> Model:
    """The model at its starting point."""
    merges = learn_merges(text.codes, N_MERGES, offsets=text.offsets)
    vocabulary = PairVocabulary.from_merges(NAME, merges)
    tokens, offsets, _ = vocabulary.encode(text.codes, text.offsets)
    start = pair_start(tokens, offsets, len(vocabulary), len(vocabulary.special))
    return started(untrained(vocabulary), start, tokens)


def main() -> None:
    make_bundle(
        options_of(__doc__.split("\n")[0], NAME, epochs=EPOCHS),
        build,
        lambda model: MaskedTokens(
            model.vocabulary, share=MASK_SHARE, as_mask=0.8, as_random=0.2, other=True
        ),
        bases_an_epoch=BASES_AN_EPOCH,
        words=WORDS,
    )


if __name__ == "__main__":
    main()
