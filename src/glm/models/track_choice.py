"""Which head of a model, and which of its tracks: by index, name, assay, words or cell type."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .._messages import counted, first_names, share, warn
from .._settings import logger
from ..genome import build_of
from .track_model import GENOMES, TRAINED_ON, TrackModel, TrackSpec
from .track_nearest import nearest, suggestions, words_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

Tracks: TypeAlias = "int | str | re.Pattern[str] | Sequence[Any] | NDArray[Any] | pd.DataFrame"
"""What :func:`choose_tracks` takes."""

_NEAREST = "nearest:"
_UCSC = re.compile(r"[a-z]{2}\d+|[a-z]{3}[A-Z][a-z]{2}\d+|sacCer\d+")  # rn6, danRer11


@dataclass(frozen=True, eq=False)
class TrackChoice:
    """Tracks that were chosen.

    Attributes
    ----------
    head
        The head whose tracks they are.
    index
        int64. Their places among the head's outputs, in the order asked for.
    table
        Their rows of the head's table, in that order.
    how
        How they were chosen, in words.
    """

    head: str
    index: NDArray[np.int64]
    table: pd.DataFrame
    how: str

    def facts(self) -> dict[str, Any]:
        """What a record says of the choice, as plain values."""
        return {"organism": self.head, "tracks": self.how, "n_tracks": len(self.index)}


def choose_tracks(
    model: TrackModel | TrackSpec,
    tracks: Tracks | None = None,
    *,
    organism: str | None = None,
    genome: object = None,
) -> TrackChoice:
    """Choose tracks of one head.

    Parameters
    ----------
    model
        A loaded model, or its row (whose table is then read).
    tracks
        One of these, or a list of them. Words are compared without regard to case.

        - ``None``: all tracks of the head;
        - a whole number: the place among the head's outputs, from 0;
        - an identifier, ``"ENCFF833POA"``: every track that has it;
        - an assay, ``"CAGE"``;
        - assay and words of the sample, ``"CAGE:cardiac"``: the words must all be there, whole but
          for the s of a plural; without an assay, ``":cardiac"``, of any;
        - ``"nearest:cardiac myocytes"``, ``"nearest:CAGE:cardiac myocytes"``: the tracks whose
          sample is called most like it (see :func:`glm.models.track_nearest.nearness`);
        - a compiled regular expression, searched for in ``"assay:sample"``.

        An array of booleans as long as the table, or rows of :func:`glm.models.tracks`, do too.
    organism
        The head; ``None`` is the genome's species where the model has a head of it, else the only
        head, else ``"human"``.
    genome
        A :class:`glm.Genome` or a genome's name, by which ``organism=None`` is decided. A head of
        another species is warned of (:func:`check_species`).

    Returns
    -------
    The choice. A list is taken in its order, all else in the order of the table; a track that two
    entries of a list find stands where the first of them found it.

    Raises
    ------
    KeyError
        If there is no such head, or nothing of the head's table fits; the message names what does.
    ValueError
        If a place is outside the table or given twice, or nothing is asked for.
    TypeError
        If ``tracks`` is none of the above.

    Examples
    --------
    >>> from glm.models.any_model import get_track_spec
    >>> choose_tracks(get_track_spec("enformer"), "CAGE:cardiac").table["sample"]  # doctest: +SKIP
    """
    name = genome if isinstance(genome, str) else str(getattr(genome, "name", "") or "")
    spec = model.spec if isinstance(model, TrackModel) else model
    head = choose_head(spec, organism, name)
    check_species(head, name)
    table = model.tables[head] if isinstance(model, TrackModel) else model.tracks(head)
    found = _Table(head, table)
    index, how = found.choose(tracks)
    chosen = table.iloc[index]
    logger.info(
        "chose %s of %s %s tracks (%s): %s",
        f"{len(index):,}",
        f"{len(table):,}",
        head,
        how,
        first_names(chosen["identifier"].head(3), total=len(chosen)),
    )
    return TrackChoice(head, index, chosen, how)


def check_species(head: str, genome_name: str) -> None:
    """Warn where a head is used on the genome of another species than it was trained on.

    Parameters
    ----------
    head
        ``"human"`` or ``"mouse"``; of other heads nothing is known.
    genome_name
        ``"hg38"``, ``"mm10"``, ``"danRer11"``; nothing is said of ``""`` and of made-up names.
    """
    build = build_of(genome_name) or genome_name
    own = GENOMES.get(head, (build,))
    known = any(build in builds for builds in GENOMES.values()) or _UCSC.fullmatch(build)
    if known and build not in own:
        warn(
            f"The {head} tracks are predicted on {genome_name}, the genome of another species: "
            f"they were learnt on {TRAINED_ON[head]}, and mean what these {head} samples would "
            "show if they held that sequence. Pass organism= to choose another head."
        )


def choose_head(spec: TrackSpec, organism: str | None = None, genome_name: str = "") -> str:
    """The head that is asked for; without, the genome's species, the only one, or human.

    Raises
    ------
    KeyError
        If the model has no such head.
    ValueError
        If none is asked for and nothing tells.
    """
    heads: Mapping[str, int] = spec.shape.heads
    build = build_of(genome_name) or genome_name
    if organism is None:
        of_genome = [head for head in heads if build in GENOMES.get(head, ())]
        default = [*of_genome, *(heads if len(heads) == 1 else ["human"])]
        organism = next((head for head in default if head in heads), None)
    if organism is None:
        raise ValueError(f"{spec.name} has the heads {', '.join(heads)}: pass organism= as one.")
    if organism not in heads:
        raise KeyError(
            f"{spec.name} predicts no {organism!r} tracks: its heads are {', '.join(heads)}."
        )
    return organism


class _Table:
    """A head's table as choices are looked up in it."""

    def __init__(self, head: str, table: pd.DataFrame) -> None:
        self.head, self.table = head, table
        self.by_identifier = table.groupby("identifier", sort=False).indices
        self.assays = {str(assay).casefold(): str(assay) for assay in table["assay"].unique()}

    def choose(self, tracks: Any) -> tuple[NDArray[np.int64], str]:
        """Places and how they were found."""
        import pandas as pd

        if tracks is None:
            return np.arange(len(self.table)), "all"
        if isinstance(tracks, pd.DataFrame):
            return self._rows(tracks)
        if isinstance(tracks, str | re.Pattern | int | np.integer):
            tracks = [tracks]
        if not isinstance(tracks, Sequence | np.ndarray | pd.Index | pd.Series):
            raise TypeError(_not_tracks(tracks))
        wanted = list(tracks)
        if not wanted:
            raise ValueError("tracks holds nothing. Pass None for all tracks of the head.")
        if all(isinstance(one, bool | np.bool_) for one in wanted):
            return self._masked(np.asarray(wanted, bool))
        if all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in wanted):
            return self._places(np.asarray(wanted, np.int64))
        return self._each(wanted)

    def _each(self, wanted: list[Any]) -> tuple[NDArray[np.int64], str]:
        import pandas as pd

        found, identifiers, words = [], [], []
        for one in wanted:
            if isinstance(one, str) and one in self.by_identifier:
                found.append(self.by_identifier[one])
                identifiers.append(one)
            else:
                index, how = self._one(one)
                found.append(index)
                words.append(how)
        index = pd.unique(np.concatenate(found)).astype(np.int64)
        if identifiers:
            shared = sum(len(self.by_identifier[one]) for one in set(identifiers))
            several = "" if len(set(identifiers)) == shared else f", {shared:,} tracks in all"
            what = "identifier" if len(identifiers) == 1 else "identifiers"
            words.insert(0, f"{what} {first_names(identifiers)}{several}")
        return index, first_names(words, 5) if len(words) > 5 else "; ".join(words)

    def _one(self, wanted: Any) -> tuple[NDArray[np.int64], str]:
        if isinstance(wanted, re.Pattern):
            return self._matched(wanted)
        if isinstance(wanted, int | np.integer) and not isinstance(wanted, bool):
            return self._places(np.asarray([wanted], np.int64))
        if not isinstance(wanted, str):
            raise TypeError(_not_tracks(wanted))
        if wanted.casefold().startswith(_NEAREST):
            return self._nearest(wanted[len(_NEAREST) :])
        if wanted.casefold() in self.assays:
            assay = self.assays[wanted.casefold()]
            return np.flatnonzero(self._of_assay(assay)), f"assay {assay}"
        if ":" in wanted:
            return self._with_words(wanted)
        raise KeyError(self._unknown(wanted))

    def _places(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
        outside = index[(index < 0) | (index >= len(self.table))]
        if outside.size:
            raise ValueError(
                f"{counted(outside.size, 'track')} of {index.size:,} lie outside the "
                f"{len(self.table):,} of head {self.head!r} ({first_names(outside)}): places count "
                f"from 0 to {len(self.table) - 1:,}."
            )
        values, times = np.unique(index, return_counts=True)
        if (times > 1).any():
            raise ValueError(
                f"{counted((times > 1).sum(), 'track')} is asked for more than once "
                f"({first_names(values[times > 1])}): name each once."
            )
        return index, f"index {first_names(index.tolist(), 5)}"

    def _masked(self, mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], str]:
        if mask.size != len(self.table) or not mask.any():
            raise ValueError(
                f"tracks is {mask.sum():,} true of {mask.size:,} booleans; expected "
                f"{len(self.table):,} of them, one for each {self.head} track, and some true."
            )
        return np.flatnonzero(mask), f"a mask, {mask.sum():,} of it true"

    def _rows(self, rows: pd.DataFrame) -> tuple[NDArray[np.int64], str]:
        """Rows of the table itself, which must be this head's."""
        if rows.index.dtype.kind not in "iu" or "identifier" not in rows or not len(rows):
            raise TypeError(_not_tracks(rows))
        index, _ = self._places(rows.index.to_numpy(np.int64))
        own = self.table["identifier"].to_numpy()[index]
        other = np.flatnonzero(own != rows["identifier"].to_numpy())
        if other.size:
            raise ValueError(
                f"{counted(other.size, 'row')} of the table passed as tracks are not {self.head} "
                f"tracks of this model: row {index[other[0]]} is "
                f"{rows['identifier'].iloc[other[0]]!r} there and {own[other[0]]!r} here. Pass "
                "organism= as the table was made for."
            )
        return index, f"rows of the table, index {first_names(index.tolist(), 5)}"

    def _matched(self, pattern: re.Pattern[str]) -> tuple[NDArray[np.int64], str]:
        if not isinstance(pattern.pattern, str):
            raise TypeError(f"{pattern.pattern!r} is a pattern of bytes; expected one of text.")
        labels = self.table["assay"] + ":" + self.table["sample"]
        index = np.flatnonzero([pattern.search(label) is not None for label in labels])
        if not index.size:
            raise KeyError(
                f"No {self.head} track is called like the pattern {pattern.pattern!r}. It is "
                f"searched for in texts such as {labels.iloc[0]!r}; {self._there_are()}"
            )
        return index, f"pattern {pattern.pattern!r}"

    def _with_words(self, wanted: str) -> tuple[NDArray[np.int64], str]:
        before, _, text = wanted.partition(":")
        assay, words = self._assay(before.strip(), wanted), words_of(text)
        mask = self._of_assay(assay) & self._with_all(words)
        of_assay = f"assay {assay}" if assay else "any assay"
        said = " and ".join(map(repr, words))
        if not words or not mask.any():
            raise KeyError(
                f"No {self.head} track of {of_assay} has {said or 'no words'} in its sample."
                + self._near(text, assay)
            )
        return np.flatnonzero(mask), f"{of_assay}, sample with {said}"

    def _nearest(self, text: str) -> tuple[NDArray[np.int64], str]:
        before, colon, after = text.partition(":")
        of_assay = bool(colon) and before.strip().casefold() in self.assays
        assay = self.assays[before.strip().casefold()] if of_assay else ""
        name = (after if of_assay else text).strip()
        among = np.flatnonzero(self._of_assay(assay))
        samples = self.table["sample"].iloc[among]
        index = among[nearest(samples, name)]
        if not index.size:
            raise KeyError(
                f"No {self.head} track{f' of assay {assay}' if assay else ''} has a sample called "
                f"nearly like {name!r}." + self._near(name, assay)
            )
        of = f" of assay {assay}" if assay else ""
        called = repr(self.table["sample"].iloc[index[0]])
        return index, f"nearest to {name!r}{of}: {called}"

    def _assay(self, text: str, wanted: str) -> str:
        """An assay's own spelling; ``""`` for any."""
        if text in ("", "*"):
            return ""
        if text.casefold() not in self.assays:
            raise KeyError(
                f"No {self.head} track is of the assay {text!r} as in {wanted!r}: "
                f"{self._there_are()}"
            )
        return self.assays[text.casefold()]

    def _of_assay(self, assay: str) -> NDArray[np.bool_]:
        if not assay:
            return np.ones(len(self.table), bool)
        return (self.table["assay"] == assay).to_numpy(bool)

    def _with_all(self, words: list[str]) -> NDArray[np.bool_]:
        """Which samples have all the words."""
        mask = np.ones(len(self.table), bool)
        for word in words:
            whole = rf"(?<![^\W_]){re.escape(word)}s?(?![^\W_])"
            mask &= self.table["sample"].str.contains(whole, case=False).to_numpy(bool)
        return mask

    def _there_are(self) -> str:
        counts = self.table["assay"].value_counts()
        named = ", ".join(f"{assay} ({number:,})" for assay, number in counts.head(8).items())
        return f"there are {named}."

    def _near(self, name: str, assay: str) -> str:
        near = suggestions(self.table["sample"][self._of_assay(assay)], name)
        if not near:
            return " glm.models.tracks() shows all that there are."
        found = ", ".join(map(repr, near))
        return f' The nearest are {found}: "{_NEAREST}{assay + ":" if assay else ""}..." takes one.'

    def _unknown(self, wanted: str) -> str:
        words = words_of(wanted)
        mask = self._with_all(words)
        there = f"{wanted!r} is neither an identifier nor an assay of the {self.head} tracks; "
        there += self._there_are()
        if words and mask.any():
            with_it = share(int(mask.sum()), len(mask))
            return f'{there} {with_it} have it in their sample: ask for ":{wanted}".'
        return there + self._near(wanted, "")


def _not_tracks(tracks: object) -> str:
    return (
        f"tracks is a {type(tracks).__name__}; expected None, places (whole numbers), identifiers, "
        'an assay ("CAGE"), words of a sample ("CAGE:cardiac"), "nearest:<cell type>", a compiled '
        "regular expression, a list of these, or rows of glm.models.tracks()."
    )
