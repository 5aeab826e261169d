"""From the names in ``var`` to genes of a vocabulary: names in, positions and a report out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np

from ._messages import first_names, share
from .models.vocabulary import GeneVocabulary
from .report import Finding

# Full patterns, never prefixes: ENSA is a gene symbol, AC000068.10 is one with a dot in it.
_HUMAN_ID = re.compile(r"(ENSG\d{11}|ENSGR\d{10})(\.\d+)?(_PAR_Y)?", re.IGNORECASE)
_OTHER_ID = re.compile(r"(ENS[A-Z]{3,4}G\d{11}|MGP_\w+_G\d{7})(\.\d+)?", re.IGNORECASE)
_FEATURE_ID = re.compile(r"ENS([A-Z]{3,4})?[TPE]\d{11}(\.\d+)?", re.IGNORECASE)
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec"
_DATE = re.compile(
    rf"(\d{{1,2}}-({_MONTHS})(-\d{{2,4}})?|({_MONTHS})-\d{{1,4}}|\d{{4}}-\d{{2}}-\d{{2}}.*)",
    re.IGNORECASE,
)
# C1orf112, CXorf40A, C7orf55-LUC7L2
_OPEN_FRAME = re.compile(r"C(\d+|X|Y)orf\d+[A-Z]*(-[A-Z0-9-]+)?")
_MOUSE_SYMBOL = re.compile(r"[A-Z][a-z]+[a-z0-9]*(-[a-z0-9]+)?|mt-[A-Z][A-Za-z0-9]*")

# Above this share of names of another species the whole object is taken to be of that species.
_SPECIES_SHARE = 0.3


@dataclass(frozen=True)
class GeneMap:
    """What became of each name.

    Attributes
    ----------
    ids
        Ensembl id of each name, ``""`` where there is none.
    position
        int32, position in the vocabulary, -1 outside it.
    target
        int32, the first column that has the same vocabulary gene (itself, mostly), -1 outside.
    kinds
        How many names were: ``id``, ``symbol``, ``alias``, ``versioned``, ``retired``, ``par_y``,
        ``other_species``, ``transcript``, ``date``, ``missing``, ``unknown``.
    examples
        The first names of each kind.
    """

    ids: np.ndarray
    position: np.ndarray
    target: np.ndarray
    kinds: Mapping[str, int]
    examples: Mapping[str, list[str]] = field(repr=False)

    @property
    def n_in_vocabulary(self) -> int:
        """Columns that carry a gene of the vocabulary."""
        return int((self.position >= 0).sum())

    @property
    def n_genes(self) -> int:
        """Distinct vocabulary genes."""
        return int(np.unique(self.position[self.position >= 0]).size)

    @property
    def n_shared(self) -> int:
        """Columns beyond the first of a gene, whose counts are summed into it."""
        return self.n_in_vocabulary - self.n_genes

    def shared_names(self, names: Sequence[str]) -> list[str]:
        """Names of the columns that are summed into an earlier one."""
        later = (self.target >= 0) & (self.target != np.arange(self.target.size))
        return [str(names[column]) for column in np.flatnonzero(later).tolist()]


def looks_like_ids(names: Iterable[object]) -> bool:
    """Whether most of the first names are human Ensembl ids."""
    first = [name for name, _ in zip(names, range(20), strict=False)]
    found = [isinstance(name, str) and _HUMAN_ID.fullmatch(name) is not None for name in first]
    return sum(found) > len(first) / 2


def map_names(
    names: Sequence[object], vocabulary: GeneVocabulary, *, symbols: bool = True
) -> GeneMap:
    """Resolve every name by itself; ids with versions, retired ids and symbols are understood.

    ``symbols=False`` leaves everything but Ensembl ids unmapped.

    Raises
    ------
    ValueError
        If names are missing, or if they are those of another species.
    """
    listed = list(names)
    genes = resolve_names(listed, vocabulary, symbols=symbols)
    for finding in (find_missing(listed), find_species(listed, genes, vocabulary)):
        if finding is not None and finding.severity == "error":
            raise ValueError(str(finding))
    return genes


def resolve_names(
    names: Sequence[object], vocabulary: GeneVocabulary, *, symbols: bool = True
) -> GeneMap:
    """Like :func:`map_names`, but take any names: missing ones have no gene."""
    resolved = [
        _resolve(name, vocabulary, symbols) if _is_name(name) else ("", "missing") for name in names
    ]
    kinds = Counter(kind for _, kind in resolved)
    examples: dict[str, list[str]] = {}
    for name, (_, kind) in zip(names, resolved, strict=True):
        if len(examples.setdefault(kind, [])) < 5:
            examples[kind].append(str(name))
    ids = np.array([gene for gene, _ in resolved], dtype=object)
    index = vocabulary.index
    position = np.array([index.get(gene, -1) for gene in ids], dtype=np.int32)
    return GeneMap(ids, position, _first_columns(position), dict(kinds), examples)


def find_missing(names: Sequence[object]) -> Finding | None:
    """An error if names are missing or not text."""
    missing = [i for i, name in enumerate(names) if not _is_name(name)]
    if not missing:
        return None
    return Finding(
        "gene names",
        "error",
        f"{share(len(missing), len(names))} gene names are missing or not text (first at columns "
        f"{first_names(missing)}: {names[missing[0]]!r}).",
        "Name every gene, or leave such columns out.",
    )


def find_species(
    names: Sequence[object], genes: GeneMap, vocabulary: GeneVocabulary
) -> Finding | None:
    """An error if many names are of another species, a warning if some ids are."""
    n_other = genes.kinds.get("other_species", 0)
    found = genes.examples.get("other_species", [])
    limit = _SPECIES_SHARE * len(names)
    if n_other <= limit and genes.kinds.get("unknown", 0) > limit:
        mouse_like = [name for name in names if _is_name(name) and _MOUSE_SYMBOL.fullmatch(name)]
        if len(mouse_like) > limit:
            n_other, found = len(mouse_like), [str(name) for name in mouse_like[:5]]
    if not n_other:
        return None
    if n_other > limit:
        return Finding(
            "species",
            "error",
            f"{share(n_other, len(names))} gene names are of another species than the vocabulary's "
            f"({vocabulary.species}): {first_names(found, total=n_other)}.",
            f"Map them to {vocabulary.species} orthologues first, or use a model of that species.",
        )
    return Finding(
        "species",
        "warning",
        f"{share(n_other, len(names))} gene ids are of another species "
        f"({first_names(found, total=n_other)}) and are not read.",
        "Where species were mixed, leave cells and genes of the other one out.",
    )


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and bool(name.strip())


def _resolve(name: str, vocabulary: GeneVocabulary, symbols: bool) -> tuple[str, str]:
    """Ensembl id (or ``""``) and kind of one name."""
    if name in vocabulary.index:
        return name, "id"
    name = name.strip()
    if match := _HUMAN_ID.fullmatch(name):
        return _resolve_human_id(match, vocabulary)
    if _OTHER_ID.fullmatch(name):
        return "", "other_species"
    if _FEATURE_ID.fullmatch(name):
        return "", "transcript"
    if symbols:
        if name in vocabulary.symbols:
            return vocabulary.symbols[name], "symbol"
        # Aliases are kept in upper case. Only names already so written are looked up there (and
        # C1orf112 and its like): raising a mouse symbol's case would make a human gene of it.
        alias = name.upper() if _OPEN_FRAME.fullmatch(name) else name
        if alias in vocabulary.aliases:
            return vocabulary.aliases[alias], "alias"
    return "", "date" if _DATE.fullmatch(name) else "unknown"


def _resolve_human_id(match: re.Match[str], vocabulary: GeneVocabulary) -> tuple[str, str]:
    base, version, par_y = match[1].upper(), match[2], match[3]
    if par_y:
        # The copy on Y is a gene of its own; older releases, and one vocabulary, call it ENSGR.
        older = "ENSGR" + base.removeprefix("ENSG")[1:]
        return (older if older in vocabulary.index else ""), "par_y"
    if base not in vocabulary.index and base in vocabulary.aliases:
        return vocabulary.aliases[base], "retired"
    return base, "versioned" if version else "id"


def _first_columns(position: np.ndarray) -> np.ndarray:
    """For each column the first one with the same gene; -1 outside the vocabulary."""
    target = np.full(position.size, -1, dtype=np.int32)
    inside = np.flatnonzero(position >= 0)
    if inside.size:
        _, first, inverse = np.unique(position[inside], return_index=True, return_inverse=True)
        target[inside] = inside[first][inverse]
    return target
