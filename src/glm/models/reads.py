"""What a model reads, for verbs that take one kind alone: genes of cells, or DNA."""

from __future__ import annotations

from .bundle import Model
from .dna_vocabulary import DnaVocabulary
from .registry import ModelSpec, rows
from .vocabulary import GeneVocabulary

_USUAL = {"geneformer": "geneformer-v2-104m", "dnabert": "dnabert-6", "grover": "grover"}
_DNA_SYSTEMS = ("dnabert", "grover")


def gene_vocabulary(model: Model | ModelSpec) -> GeneVocabulary:
    """The vocabulary of a model that reads cells.

    Raises
    ------
    ValueError
        If the model reads DNA; nothing is fetched to find out.
    """
    spec = model.spec if isinstance(model, Model) else model
    if spec.system not in _DNA_SYSTEMS:
        vocabulary = _vocabulary(model)
        if isinstance(vocabulary, GeneVocabulary):
            return vocabulary
    raise ValueError(
        f"{spec.name} reads DNA, not the counts of cells. Choose a model of cells, such as "
        f"{_some('geneformer')}."
    )


def dna_vocabulary(model: Model | ModelSpec) -> DnaVocabulary:
    """The vocabulary of a model that reads DNA.

    Raises
    ------
    ValueError
        If the model reads cells; nothing is fetched to find out.
    """
    spec = model.spec if isinstance(model, Model) else model
    if spec.system != "geneformer":
        vocabulary = _vocabulary(model)
        if isinstance(vocabulary, DnaVocabulary):
            return vocabulary
    raise ValueError(
        f"{spec.name} reads the genes of cells, not DNA. Choose a model of DNA, such as "
        f"{_some(*_DNA_SYSTEMS)}."
    )


def _vocabulary(model: Model | ModelSpec) -> GeneVocabulary | DnaVocabulary:
    return model.vocabulary if isinstance(model, Model) else model.vocabulary()


def _some(*systems: str) -> str:
    """A published model of each system, and the bundled ones."""
    small = [spec.name for spec in rows().values() if spec.tier == "demo"]
    found = [[_USUAL[of], *(name for name in small if name.startswith(of))] for of in systems]
    return ", ".join(name for names in found for name in names)
