"""Names of the slots that ``glm`` writes, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class _Keys:
    """Slots under ``key``, which the user may choose."""

    key: str

    def __post_init__(self) -> None:
        _check_key(self.key)


@dataclass(frozen=True)
class RankKeys(_Keys):
    """Slots of a rank encoding under ``key``."""

    @property
    def layer(self) -> str:
        return f"rank_{self.key}"

    @property
    def token(self) -> str:
        return f"token_{self.key}"

    @property
    def n_ranked(self) -> str:
        return f"n_ranked_{self.key}"

    @property
    def record(self) -> str:
        return f"rank_{self.key}"


@dataclass(frozen=True)
class EmbeddingKeys(_Keys):
    """Slots of an embedding under ``key``."""

    @property
    def obsm(self) -> str:
        """The vectors, in ``obsm``; those of variables go by this name in ``varm``."""
        return f"X_{self.key}"

    @property
    def ok(self) -> str:
        return f"{self.key}_ok"

    def slots(self, axis: str) -> list[tuple[str, str]]:
        """Where the vectors and the flags of an axis, ``"obs"`` or ``"var"``, are written."""
        return [(f"{axis}m", self.obsm), (axis, self.ok)]

    @property
    def record(self) -> str:
        return f"X_{self.key}"


@dataclass(frozen=True)
class GeneEmbeddingKeys(_Keys):
    """Slots of gene embeddings under ``key``: of all cells, or of each group of ``groupby``."""

    groupby: str | None = None

    def varm(self, group: str | None = None) -> str:
        return f"X_{self.key}{_of_group(self.groupby, group)}"

    def n_cells(self, group: str | None = None) -> str:
        return f"n_cells_{self.key}{_of_group(self.groupby, group)}"

    @property
    def record(self) -> str:
        return f"X_{self.key}_genes{_by(self.groupby)}"


@dataclass(frozen=True)
class GroupEmbeddingKeys(_Keys):
    """Slots of the mean cell embeddings of the groups of ``groupby`` under ``key``."""

    groupby: str

    @property
    def record(self) -> str:
        return f"X_{self.key}{_by(self.groupby)}"


@dataclass(frozen=True)
class AttentionKeys(_Keys):
    """Slots of attention under ``key``: over all cells, or over each group of ``groupby``."""

    groupby: str | None = None

    def varp(self, group: str | None = None) -> str:
        return f"attention_{self.key}{_of_group(self.groupby, group)}"

    def n(self, group: str | None = None) -> str:
        return f"{self.varp(group)}_n"

    @property
    def record(self) -> str:
        return f"attention_{self.key}{_by(self.groupby)}"


@dataclass(frozen=True)
class TrackKeys(_Keys):
    """Slots of predicted tracks under ``key``."""

    @property
    def values(self) -> str:
        """The predictions, in ``varm`` or ``obsm``."""
        return f"tracks_{self.key}"

    @property
    def ok(self) -> str:
        return f"tracks_{self.key}_ok"

    @property
    def n_share(self) -> str:
        """Share of unknown bases in the window of each row."""
        return f"tracks_{self.key}_n_share"

    @property
    def start(self) -> str:
        """Where the first bin of each row begins, if bins were kept."""
        return f"tracks_{self.key}_start"

    @property
    def record(self) -> str:
        return f"tracks_{self.key}"

    def slots(self, axis: str, *, bins: bool = False) -> list[tuple[str, str]]:
        """Where predictions, flags and shares of an axis, ``"obs"`` or ``"var"``, are written.

        With ``bins``, also where those of each row begin.
        """
        found = [(f"{axis}m", self.values), (axis, self.ok), (axis, self.n_share)]
        return [*found, (axis, self.start)] if bins else found


@dataclass(frozen=True)
class StretchKeys(_Keys):
    """What :func:`glm.tl.predict_stretch` names in its object, bins × tracks, under ``key``."""

    n_share: str = "n_share"
    window_n_share: str = "window_n_share"

    @property
    def ok(self) -> str:
        return f"{self.key}_ok"

    @property
    def record(self) -> str:
        return f"stretch_{self.key}"


@dataclass(frozen=True)
class ExpressionKeys(_Keys):
    """Slots of expression predicted from sequence under ``key``."""

    @property
    def varm(self) -> str:
        """log1p of the sums of bins, genes × tracks."""
        return f"expression_{self.key}"

    @property
    def ok(self) -> str:
        return f"expression_{self.key}_ok"

    @property
    def n_tss(self) -> str:
        """How many start sites each gene's value is the mean of."""
        return f"expression_{self.key}_n_tss"

    @property
    def record(self) -> str:
        return f"expression_{self.key}"

    def slots(self) -> list[tuple[str, str]]:
        """Where values, flags and numbers of start sites are written."""
        return [("varm", self.varm), ("var", self.ok), ("var", self.n_tss)]


@dataclass(frozen=True)
class RegionKeys:
    """Columns of ``obs`` or ``var`` that hold regions, and their record."""

    axis: str
    chrom: str = "chrom"
    start: str = "start"
    end: str = "end"
    strand: str = "strand"
    genome: str = "genome"
    transcript: str = "tss_transcript"

    @property
    def record(self) -> str:
        return f"regions_{self.axis}"


@dataclass(frozen=True)
class SequenceKeys(_Keys):
    """Columns of ``obs`` or ``var`` with what regions' sequences are made of, under ``key``."""

    axis: str

    @property
    def gc(self) -> str:
        return f"{self.key}_gc"

    @property
    def n_cpg(self) -> str:
        return f"{self.key}_n_cpg"

    @property
    def cpg(self) -> str:
        return f"{self.key}_cpg"

    @property
    def n_share(self) -> str:
        return f"{self.key}_n_share"

    @property
    def ok(self) -> str:
        return f"{self.key}_ok"

    @property
    def record(self) -> str:
        return f"{self.key}_{self.axis}"


@dataclass(frozen=True)
class FoldKeys(_Keys):
    """The column of ``obs`` or ``var`` that says in which fold a region is, called ``key``."""

    axis: str

    @property
    def column(self) -> str:
        return self.key

    @property
    def record(self) -> str:
        return f"{self.key}_{self.axis}"


@dataclass(frozen=True)
class PredictionKeys:
    """Slots of what is predicted of ``target`` under ``key``.

    ``held_out`` are the predictions that fine-tuning makes of rows it did not train on.
    """

    target: str
    key: str
    held_out: bool = False

    def __post_init__(self) -> None:
        _check_key(self.key)

    @property
    def label(self) -> str:
        """The predicted class or amount, and the record."""
        return f"{_safe(self.target)}_{self.key}{'_held_out' if self.held_out else ''}"

    @property
    def confidence(self) -> str:
        return f"{self.label}_confidence"

    @property
    def probability(self) -> str:
        return f"{self.label}_probability"

    @property
    def ok(self) -> str:
        return f"{self.label}_ok"

    @property
    def fold(self) -> str:
        return f"{_safe(self.target)}_{self.key}_fold"

    @property
    def record(self) -> str:
        return self.label


def _check_key(key: str) -> None:
    if "/" in key:
        raise ValueError(
            f"{key!r} cannot be part of a slot's name: '/' makes a folder in h5ad and zarr files, "
            "which could not be read again. Choose a name without it."
        )


def _by(groupby: str | None) -> str:
    return "" if groupby is None else f"_by_{_safe(groupby)}"


def _of_group(groupby: str | None, group: str | None) -> str:
    if groupby is None or group is None:
        return ""
    return f"_{_safe(groupby)}_{_safe(group)}"


def _safe(name: str) -> str:
    # A slash in a key would be a folder inside of h5ad and zarr files.
    return name.replace("/", "_")


ENSEMBL_ID = "ensembl_id"
"""Column of ``var`` in which gene ids are looked for first and :func:`glm.pp.map_genes` writes."""
