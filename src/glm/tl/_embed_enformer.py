from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .._keys import EmbeddingKeys
from ..models.track_model import TrackModel
from ._job import EMBEDDING_FILE, finite_rows
from ._track_call import WindowCall, WindowOptions, WindowRun
from ._track_job import make_reading, plan_tracks, track_values

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

    from ..engine import RunPlan
    from ..genome import Genome

    Sequences = str | os.PathLike[str] | Mapping[str, str | np.ndarray] | Genome


def embed_enformer(
    data: AnnData | MuData,
    model: str | Path | TrackModel = "enformer",
    *,
    genome: Sequences | None = None,
    axis: Literal["obs", "var"] | None = None,
    mod: str | None = None,
    strand_average: bool = False,
    shifts: Sequence[int] = (0,),
    max_n_share: float = 0.1,
    max_n_share_window: float = 0.5,
    edges: Literal["clip", "raise"] = "clip",
    device: str | None = None,
    precision: Literal["float32", "mixed"] | None = None,
    out: str | Path | None = None,
    devices: int | list[int] | str | None = None,
    strategy: str = "auto",
    key_added: str = "enformer",
    overwrite: bool = False,
    copy: bool = False,
    dry_run: bool = False,
) -> AnnData | MuData | RunPlan | None:
    """Embed regions by what Enformer's heads read of them :cite:p:`avsec2021`.

    The model reads a window around each region (196,608 bases for the published one) on the plus
    strand, and the embedding is the mean, over the bins that share a base with the region, of the
    vector from which all tracks of that bin are predicted: 3,072 wide for the published model.
    :func:`glm.tl.embed` with a model that predicts tracks does the same. Time and memory are those
    of :func:`glm.tl.predict_tracks`.

    Parameters
    ----------
    data
        An object with regions, as for :func:`glm.tl.predict_tracks`; or a MuData, with ``mod``.
    model
        A name of :func:`glm.models.list`, the path of a folder, or a loaded model.
    genome, axis, mod
        Where the sequence and the regions are, as for :func:`glm.tl.predict_tracks`.
    strand_average, shifts
        Average over both strands, and over windows that are shifted, as there; bins of the reverse
        complement are turned around.
    max_n_share, max_n_share_window, edges
        Which regions cannot be read, as there.
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``None`` takes CUDA where there is one.
    precision
        ``"float32"``, or ``"mixed"`` (bfloat16 in the transformer blocks). ``None`` is mixed on a
        GPU that has it, float32 on the CPU.
    out
        A folder for a long run, as for :func:`glm.tl.embed`: its ``embedding.npy`` is the result.
    devices, strategy
        Devices for Lightning to use, and how it launches them, as for :func:`glm.tl.embed`.
    key_added
        Name in the slots.
    overwrite
        Replace what another model or the user put into the slots.
    copy
        Return a copy instead of writing into ``data``.
    dry_run
        Check everything, time a window, write nothing, and return the plan.

    Returns
    -------
    ``None``; the copy; or the plan. Sets, in ``varm``, ``var`` or ``obsm``, ``obs`` by the axis:

    ``data.varm["X_<key>"]``
        float32, regions × width; NaN where a region cannot be read.
    ``data.var["<key>_ok"]``
        bool. Whether the row could be computed.
    ``data.uns["X_<key>"]``
        The record: model, weights, genome, window, strand, shifts, precision, and counts of regions
        that are unusable (and why), clipped, padded or with unknown bases.

    Raises
    ------
    ValueError, TypeError, KeyError, OSError, RuntimeError
        As :func:`glm.tl.predict_tracks`.

    Examples
    --------
    >>> import glm
    >>> peaks, genome = glm.datasets.toy_regions(n_regions=2)
    >>> options = {"genome": genome, "max_n_share_window": 1.0}
    >>> glm.tl.embed_enformer(peaks, "enformer-tiny", **options)
    >>> "X_enformer" in peaks.varm
    True
    """
    options = WindowOptions(
        genome, axis, mod, strand_average, shifts, max_n_share, max_n_share_window, edges
    )
    run = WindowRun(device, precision, out, devices, strategy, key_added, overwrite, copy, dry_run)
    return embed_windows(data, model, options, run, function="glm.tl.embed_enformer")


def embed_windows(
    data: AnnData | MuData,
    model: str | Path | TrackModel,
    options: WindowOptions,
    run: WindowRun,
    *,
    function: str,
) -> AnnData | MuData | RunPlan | None:
    """Check, compute, write: see :func:`embed_enformer`."""
    call = WindowCall(data, model, options, run, function=function)
    keys = EmbeddingKeys(run.key_added or call.spec.system)
    written = keys.slots(call.located.axis)
    call.check_free(written, keys.record)
    reading = make_reading(
        call.loaded, None, strand_average=options.strand_average, shifts=options.shifts
    )
    job = call.job(reading, "embed")
    if run.dry_run:
        return plan_tracks(job)
    vectors = track_values(
        job, out=call.folder, devices=run.devices, strategy=run.strategy, file=EMBEDDING_FILE
    )
    ok = finite_rows(vectors)
    values = dict(zip(written, (vectors, ok), strict=True))
    record = call.record(job, ok, pooling="mean")
    result = call.write(values, keys.record, record, vectors)
    shape = f"{vectors.shape[0]:,} × {vectors.shape[1]:,}"
    call.report(job, ok, keys.ok, f"{keys.obsm!r} ({call.located.axis}m, {shape}, float32)")
    return result
