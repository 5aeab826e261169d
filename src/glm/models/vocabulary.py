"""The vocabulary of a model that reads cells: ids, medians, symbols, special tokens, context."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._cards import html_card
from .._fetch import fetch
from .._settings import settings
from ._unpickle import read_pickled_dict

_SPECIAL_NAMES = {"<pad>": "pad", "<mask>": "mask", "<cls>": "cls", "<eos>": "eos"}


@dataclass(frozen=True, eq=False)
class GeneVocabulary:
    """Everything that turns the counts of a cell into the tokens a model was trained on.

    Attributes
    ----------
    name
        Where it comes from, for example ``"gc30M"``.
    ids
        Ensembl gene ids; the order is the vocabulary's and settles ties.
    tokens
        int32, one a gene: its token.
    medians
        float64, one a gene: non-zero median of the gene over the pretraining corpus.
    special
        Tokens that are no gene: ``pad``, ``mask`` and, where the model has them, ``cls``, ``eos``.
    context
        Longest sentence in tokens, special ones included.
    symbols
        Official symbol → Ensembl id (of any gene, also outside the vocabulary).
    aliases
        Other upper-case names and retired ids → Ensembl id.
    """

    name: str
    ids: tuple[str, ...]
    tokens: np.ndarray
    medians: np.ndarray
    special: Mapping[str, int]
    context: int
    symbols: Mapping[str, str] = field(repr=False)
    aliases: Mapping[str, str] = field(repr=False)
    species: str = "human"

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(self.tokens) != n or len(self.medians) != n or len(set(self.ids)) != n:
            raise ValueError(
                f"The vocabulary {self.name!r} has {n:,} ids ({len(set(self.ids)):,} distinct), "
                f"{len(self.tokens):,} tokens and {len(self.medians):,} medians; expected one each."
            )
        if n and not (np.isfinite(self.medians).all() and (self.medians > 0).all()):
            raise ValueError(f"The vocabulary {self.name!r} has medians that are not above zero.")
        if ("cls" in self.special) != ("eos" in self.special):
            raise ValueError(
                f"The vocabulary {self.name!r} has only one of <cls> and <eos>; sentences have "
                "both or neither."
            )
        used = [*self.special.values(), *self.tokens.tolist()]
        if sorted(used) != list(range(len(used))):
            raise ValueError(
                f"The tokens of the vocabulary {self.name!r} are not 0 to {len(used) - 1:,}, each "
                "once."
            )

    def __len__(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.ids) + len(self.special)

    @property
    def n_special(self) -> int:
        """Special tokens added to every sentence (``<cls>`` and ``<eos>``)."""
        return sum(name in self.special for name in ("cls", "eos"))

    @property
    def n_genes_read(self) -> int:
        """Most genes of a cell that fit into the context."""
        return self.context - self.n_special

    @cached_property
    def index(self) -> dict[str, int]:
        """Ensembl id → position in ``ids``."""
        return {gene: i for i, gene in enumerate(self.ids)}

    @cached_property
    def sha256(self) -> str:
        """One hash over everything that decides a sentence."""
        digest = hashlib.sha256()
        digest.update(json.dumps(self.to_dict(), sort_keys=True, allow_nan=False).encode())
        return digest.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; written as JSON, the medians stay exact."""
        return {
            "name": self.name,
            "species": self.species,
            "context": self.context,
            "special": dict(self.special),
            "ids": list(self.ids),
            "tokens": self.tokens.tolist(),
            "medians": self.medians.tolist(),
            "symbols": dict(self.symbols),
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> GeneVocabulary:
        """The inverse of :meth:`to_dict`."""
        return cls(
            name=content["name"],
            ids=tuple(content["ids"]),
            tokens=np.asarray(content["tokens"], dtype=np.int32),
            medians=np.asarray(content["medians"], dtype=np.float64),
            special=dict(content["special"]),
            context=int(content["context"]),
            symbols=dict(content["symbols"]),
            aliases=dict(content["aliases"]),
            species=content["species"],
        )

    @classmethod
    def from_dictionaries(
        cls, folder: Path | str, name: str, *, context: int | None = None
    ) -> GeneVocabulary:
        """Read the four original Geneformer dictionaries ``*_<name>.pkl`` of a folder.

        They are pickles: read by a reader that admits names and numbers and runs nothing.
        ``context`` is by default 2,048 for vocabularies without ``<cls>``, else 4,096.
        """
        parts = {part: Path(folder) / f"{part}_{name}.pkl" for part in _DICTIONARIES}
        return _from_files(parts, name, context)

    def _holds(self) -> dict[str, object]:
        """The line of a model's card that says what it reads."""
        return {"genes": f"{len(self.ids):,} ({self.species})"}

    def _repr_html_(self) -> str:
        return html_card(f"Vocabulary {self.name}", self._card())

    def _card(self) -> dict[str, object]:
        low, high = (self.medians.min(), self.medians.max()) if self.ids else (0, 0)
        return {
            "genes": f"{len(self.ids):,} ({self.species}, Ensembl ids)",
            "special tokens": ", ".join(f"<{k}> {v}" for k, v in self.special.items()),
            "context": f"{self.context:,} tokens, {self.n_genes_read:,} of them genes",
            "medians": f"{low:.3g} to {high:.3g}",
            "symbols": f"{len(self.symbols):,}, and {len(self.aliases):,} older names and ids",
            "sha256": self.sha256,
        }


_DICTIONARIES = (
    "token_dictionary",
    "gene_median_dictionary",
    "gene_name_id_dict",
    "ensembl_mapping_dict",
)


def _from_files(parts: Mapping[str, Path], name: str, context: int | None) -> GeneVocabulary:
    tokens, medians, symbols, aliases = (read_pickled_dict(parts[part]) for part in _DICTIONARIES)
    genes = [gene for gene in tokens if gene not in _SPECIAL_NAMES]
    genes.sort(key=tokens.__getitem__)
    missing = [gene for gene in genes if gene not in medians]
    if missing:
        raise ValueError(
            f"{len(missing):,} of {len(genes):,} genes of the token dictionary {name!r} have no "
            f"median ({', '.join(missing[:3])}): the two dictionaries do not belong together."
        )
    special = {short: int(tokens[long]) for long, short in _SPECIAL_NAMES.items() if long in tokens}
    return GeneVocabulary(
        name=name,
        ids=tuple(genes),
        tokens=np.array([tokens[gene] for gene in genes], dtype=np.int32),
        medians=np.array([medians[gene] for gene in genes], dtype=np.float64),
        special=special,
        context=context or (4096 if "cls" in special else 2048),
        symbols=symbols,
        aliases={alias: gene for alias, gene in aliases.items() if alias != gene},
    )


_published: dict[tuple[str, str, int], GeneVocabulary] = {}


def published_vocabulary(name: str, *, context: int) -> GeneVocabulary:
    """The published vocabulary ``name`` (``"gc30M"``, ``"gc104M"``), held to the pinned hashes."""
    key = (f"{settings.mirror}|{settings.data_dir}", name, context)
    if key not in _published:
        parts = {part: fetch(f"{part}_{name}.pkl") for part in _DICTIONARIES}
        _published[key] = _from_files(parts, name, context)
    return _published[key]
