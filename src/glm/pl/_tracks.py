from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .._messages import first_names
from ..locate import same_genome
from ._figure import finish
from ._track_marks import read_genes, read_regions, read_variants
from ._track_sheet import Lane, Sheet
from ._track_sources import Entry, Source, choose, open_source, partners
from ._track_view import View, difference_of, read_view

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

_MOST_PANELS = 150
_SHARING = ("track", "assay", "all", None)


def tracks(
    data: Any,
    region: Any = None,
    tracks: int | str | Sequence[int | str] | None = None,
    *,
    compare: Any = None,
    labels: tuple[str, str] = ("predicted", "measured"),
    difference: bool = False,
    zoom: Any = None,
    genes: pd.DataFrame | str | Path | None = None,
    regions: Any = None,
    variants: pd.DataFrame | Sequence[str] | None = None,
    share_y: Literal["track", "assay", "all"] | None = "track",
    colors: Mapping[str, Any] | None = None,
    width: float = 10.0,
    track_height: float = 0.5,
    key: str = "enformer",
    axis: Literal["obs", "var"] | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """Draw tracks along a stretch of a genome, with genes, regions and variants marked.

    Reads what :func:`glm.tl.predict_stretch` returned or :func:`glm.tl.predict_tracks` wrote,
    arrays of bins, and bigWig files. Values are drawn as they are, a step a bin. Of more than 1,500
    bins those in the same 1,500th of the view are joined: the value farthest from 0 stands for
    them, so peaks keep their height. Where there is no bin, or NaN in it, is a gap.

    Parameters
    ----------
    data
        An AnnData of bins × tracks with chrom, start and end in ``obs``; an AnnData with regions ×
        bins × tracks in ``obsm`` or ``varm["tracks_<key>"]``; a dict of a name and an array each (a
        value a bin; all cover ``region``), or a name and the path of a bigWig; or a list of such,
        drawn below one another.
    region
        What to draw, and what arrays cover: ``("chr1", 1_000, 2_000)`` or ``"chr1:1,000-2,000"``,
        0-based and half-open. Of an object with a slot, the name of a row. ``None`` takes all bins
        of an object, or its only row.
    tracks
        Names or places of tracks, or an assay and words of the sample, such as ``"CAGE"`` or
        ``"CAGE:heart"``; ``None`` draws all.
    compare
        The same tracks from elsewhere, an object or a dict: measured, or of the reference allele.
        Each is drawn below the track of its name; tracks it lacks stand alone. A bigWig is
        averaged over the bins of the track, bases it says nothing of counting as 0.
    labels
        What ``data`` and ``compare`` are called beside the tracks.
    difference
        Draw below each pair ``data`` minus ``compare``, bin by bin, as they are: it means something
        only in the same units and bins.
    zoom
        The part of ``region`` to draw, written as a region; ``None`` draws all of it.
    genes
        What :func:`glm.io.read_gtf` returned, or the path of a GTF (read each time: of a whole
        genome that takes half a minute). A gene is a line with its exons as boxes, those of all its
        transcripts merged, and taller where they are translated if there are rows of ``CDS``.
    regions
        Regions to mark, by boxes below and shades behind the tracks: anything that
        :func:`glm.pp.set_regions` reads (a BED file, a DataFrame, :class:`glm.Regions`), or a dict
        of a title and such for each row of boxes. A column ``name`` is written beside them.
    variants
        Variants to mark by lines: texts such as ``"chr1:1500:A>G"``, or a DataFrame with ``chrom``
        and ``pos`` (both count from 1, as in a VCF) or ``start`` (from 0), and perhaps ``ref``,
        ``alt`` and ``name``.
    share_y
        Which panels have the same y-axis: both panels of a ``"track"``, all of an ``"assay"``,
        ``"all"``, or ``None``. Differences share theirs with differences alone.
    colors
        A colour for the name of a track or an assay.
    width, track_height
        Inches of the figure and of each track; the height follows from what is drawn.
    key
        Name in the slots.
    axis
        Where the slot is, if it is in both ``obsm`` and ``varm``.
    ax
        Axes whose place the panels take; ``None`` makes a figure.
    show
        Show the figure and return nothing; ``None`` does so where matplotlib is interactive (as in
        a notebook) and no ``ax`` is given.
    save
        File to write the figure to.

    Returns
    -------
    The panels from top to bottom (``panel.get_label()`` is ``variants``, the name of a track, the
    name and ``compare`` or ``difference``, ``genes`` or the title of regions), or ``None`` if the
    figure was shown. They share one x-axis, in bp.

    Raises
    ------
    KeyError
        If there is no such track, row or slot, or ``compare`` has none of the tracks.
    OSError
        If a file cannot be read.
    TypeError
        If something is of no kind named above.
    ValueError
        If bins do not share out ``region``, lie elsewhere, overlap, or are infinite; if the bins of
        a difference do not agree; if the genomes of tracks and genes do not; if there are more than
        150 panels.

    Examples
    --------
    >>> import glm, numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> predicted = {"liver": rng.gamma(0.5, size=64), "heart": rng.gamma(0.5, size=64)}
    >>> measured = {"liver": rng.gamma(0.5, size=64)}
    >>> peaks = pd.DataFrame({"chrom": "chr1", "start": [12_000], "end": [12_600]})
    >>> panels = glm.pl.tracks(
    ...     predicted,
    ...     ("chr1", 10_000, 18_192),
    ...     compare=measured,
    ...     difference=True,
    ...     regions=peaks,
    ...     variants=["chr1:12,301:A>G"],
    ...     show=False,
    ... )
    >>> [panel.get_label() for panel in panels]
    ['variants', 'liver', 'liver compare', 'liver difference', 'heart', 'regions']
    """
    _check_options(share_y, labels, width, track_height)
    if difference and compare is None:
        raise ValueError("difference=True needs compare=, the tracks that are taken away.")
    sources = _open(data, region, key, axis)
    view = _view(sources, zoom)
    entries = [entry for source in sources for entry in source.entries]
    chosen = choose(entries, tracks)
    _check_number(len(chosen))
    lanes = [Lane("", entry, entry.read(view)) for entry in chosen]
    if compare is not None:
        cover = sources[0].extent
        other = open_source(compare, region, cover, key=key, axis=axis, what="compare")
        lanes = _with_partners(lanes, entries, other, view, difference=difference)
        sources.append(other)
        _check_number(len(lanes))
    genome = _genome(sources)
    sheet = Sheet(
        view,
        lanes,
        None if genes is None else read_genes(genes, view, genome),
        {} if regions is None else read_regions(regions, view),
        None if variants is None else read_variants(variants, view),
        labels=labels if compare is not None else ("", ""),
        share_y=share_y,
        colours=_checked_colours(entries, colors),
        genome=genome,
    )
    figure, axes = sheet.draw(width, track_height, ax)
    shown = finish(figure, axes, ax, show=show, save=save)
    return None if shown is None else axes


def _check_options(share_y: Any, labels: Any, width: float, track_height: float) -> None:
    if share_y not in _SHARING:
        raise ValueError(f"share_y is {share_y!r}; expected 'track', 'assay', 'all' or None.")
    if isinstance(labels, str) or len(labels) != 2:
        raise ValueError(f"labels is {labels!r}; expected two texts, for data and for compare.")
    if not (width > 0 and track_height > 0):
        raise ValueError(
            f"width is {width} and track_height {track_height}; expected inches, more than 0."
        )


def _check_number(n_panels: int) -> None:
    if n_panels > _MOST_PANELS:
        raise ValueError(
            f"{n_panels:,} panels would be drawn, more than {_MOST_PANELS}. Choose among the "
            "tracks with tracks=: names, places, or an assay and words such as 'CAGE:heart'."
        )


def _open(data: Any, region: Any, key: str, axis: str | None) -> list[Source]:
    """The sources of the tracks; arrays beside another source cover what it covers."""
    sources: list[Source] = []
    for each in data if isinstance(data, list) else [data]:
        cover = sources[0].extent if sources else None
        sources.append(open_source(each, region, cover, key=key, axis=axis, what="data"))
    if not sources:
        raise ValueError("data is an empty list: there is nothing to draw.")
    return sources


def _view(sources: list[Source], zoom: Any) -> View:
    whole = sources[0].extent
    if zoom is None:
        return whole
    part = read_view(zoom, "zoom")
    if not whole.meets(part):
        raise ValueError(f"zoom is {part}, which lies outside of {whole}.")
    return View(whole.chrom, max(part.start, whole.start), min(part.end, whole.end))


def _with_partners(
    lanes: list[Lane], entries: list[Entry], other: Source, view: View, *, difference: bool
) -> list[Lane]:
    """Below each track its partner in the other source, and the difference of the two."""
    found = partners([lane.entry for lane in lanes], entries, other)
    result = []
    for lane, partner in zip(lanes, found, strict=True):
        result.append(lane)
        if partner is None:
            continue
        theirs = partner.read(view, like=lane.bins)
        result.append(Lane("compare", lane.entry, theirs))
        if difference:
            less = difference_of(lane.bins, theirs, lane.entry.name)
            result.append(Lane("difference", lane.entry, less))
    return result


def _genome(sources: list[Source]) -> str | None:
    """The genome that the sources say they are of, if any does."""
    stated = [source.genome for source in sources if source.genome]
    for other in stated[1:]:
        if not same_genome(stated[0], other):
            raise ValueError(
                f"The tracks are of {stated[0]!r} and of {other!r}: positions of one mean "
                "something else in the other. Draw them apart."
            )
    return stated[0] if stated else None


def _checked_colours(entries: list[Entry], colors: Mapping[str, Any] | None) -> dict[str, Any]:
    from matplotlib.colors import is_color_like

    known = {name for entry in entries for name in (*entry.names, entry.assay)}
    for name, colour in (colors or {}).items():
        if name not in known:
            raise KeyError(
                f"colors names {name!r}, which is no track or assay; there are "
                f"{first_names(entry.name for entry in entries)}."
            )
        if not is_color_like(colour):
            raise ValueError(
                f"colors[{name!r}] is {colour!r}, which matplotlib knows no colour of."
            )
    return dict(colors or {})
