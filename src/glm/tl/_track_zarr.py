"""All bins of all regions: straight into a zarr array on the disk, one chunk a shard."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._atomic import replacing
from ..engine import ArraySink, PoolRows, WorkFolder, cut
from ..engine.shards import Saved
from ._job import Devices, check_room, complete, compute
from ._track_job import good_rows

if TYPE_CHECKING:
    from ..engine import Team
    from ._track_job import TrackJob

ZARR = "tracks.zarr"
OK_FILE = "ok.npy"


class ZarrFolder(WorkFolder):
    """A work folder whose finished shards are chunks of a zarr array; the rest is as there.

    ::

        out/
          manifest.json          as for every run
          tracks.zarr/           float32, rows × bins × tracks; NaN where there is nothing
          shards/000012.npz      which rows of a finished chunk are finite
          ok.npy                 the same of all rows, once all are done; the shards are gone then

    Each chunk is written beside its place, flushed, and renamed before its shard is called done, so
    that whatever kills the process leaves whole chunks. The values are never anywhere else, and
    take their size on the disk once.

    Parameters
    ----------
    path, facts
        As for :class:`WorkFolder`; the facts have ``"shape"`` and ``"rows_per_block"``.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        super().__init__(path, facts)
        self.shape: tuple[int, ...] = tuple(self.facts["shape"])
        self.step = int(self.facts["rows_per_block"])
        self._make_array()

    def write(self, number: int, saved: Saved) -> None:
        """Write a block's rows, and keep of the shard which of them are finite."""
        first = number * self.step
        sink = ArraySink(self.step, int(np.prod(self.shape[1:])))
        reducer = PoolRows("cls", sink)
        reducer.merge({**saved.state, "row": saved.state["row"] - first} if saved.state else {})
        reducer.finish()
        chunk = self.result(ZARR) / "c" / str(number) / "0" / "0"
        chunk.parent.mkdir(parents=True, exist_ok=True)
        with replacing(chunk) as beside:
            sink.array.astype("<f4", copy=False).tofile(beside)
        rows = np.unique(saved.state.get("row", np.zeros(0, np.int64)))
        good = good_rows(sink.array[rows - first].reshape(-1, *self.shape[1:]))
        super().write(number, Saved({"row": rows, "ok": good}, saved.place, saved.budget))

    def is_complete(self, name: str) -> bool:
        """Whether the finished result is there, in the file ``name`` and in all chunks."""
        n_chunks = sum(1 for _ in (self.result(ZARR) / "c").glob("*/0/0"))
        return super().is_complete(name) and n_chunks == -(-self.shape[0] // self.step)

    def missing_bytes(self) -> int:
        """Bytes of the array that are not on the disk yet."""
        files = (self.result(ZARR) / "c").glob("*/0/0")
        there = sum(file.stat().st_size for file in files)
        return max(4 * int(np.prod(self.shape)) - there, 0)

    def ok(self, n_shards: int) -> NDArray[np.bool_]:
        """Whether each row is there and finite."""
        found = np.zeros(self.shape[0], bool)
        for state in self.states(n_shards):
            found[state["row"]] = state["ok"]
        return found

    def describe(self, attributes: Mapping[str, Any]) -> None:
        """Add attributes to the description of the array, unless it has them."""
        content = json.loads(self._description.read_text(encoding="utf-8"))
        if content.get("attributes") == attributes:
            return
        content["attributes"] = dict(attributes)
        with replacing(self._description) as beside:
            beside.write_text(json.dumps(content, indent=1), encoding="utf-8")

    @property
    def _description(self) -> Path:
        return self.result(ZARR) / "zarr.json"

    def _make_array(self) -> None:
        """Describe the array, unless it is described: what zarr itself writes of such a one."""
        place = self._description
        if place.is_file():
            return
        import zarr

        place.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as aside:
            zarr.create_array(
                store=aside,
                shape=self.shape,
                chunks=(self.step, *self.shape[1:]),
                dtype="float32",
                fill_value=np.nan,
                compressors=None,  # predictions hardly compress, and plain chunks are plain bytes
                filters=None,
                dimension_names=("region", "bin", "track"),
                zarr_format=3,
            )
            content = json.loads((Path(aside) / "zarr.json").read_text(encoding="utf-8"))
        with replacing(place, keep=True) as beside:
            beside.write_text(json.dumps(content, indent=1), encoding="utf-8")


def write_zarr(
    job: TrackJob,
    out: Path,
    *,
    attributes: Mapping[str, Any],
    devices: Devices = None,
    strategy: str = "auto",
) -> tuple[Path, NDArray[np.bool_]]:
    """Compute all bins of a job into ``out``; the array gets the attributes when it is whole.

    Returns
    -------
    The zarr array's folder, float32, rows × bins × tracks; and bool, whether each row is there.
    """
    make = partial(_make, attributes)
    folder = complete(job, out, OK_FILE, make, kind=ZarrFolder, devices=devices, strategy=strategy)
    assert isinstance(folder, ZarrFolder)
    folder.describe(attributes)  # regions may have other names than when it was finished
    return folder.result(ZARR), np.load(folder.result(OK_FILE))


def _make(attributes: Mapping[str, Any], job: TrackJob, team: Team, folder: WorkFolder) -> None:
    assert isinstance(folder, ZarrFolder)
    check_room(folder, folder.missing_bytes())
    reducer = PoolRows("cls", ArraySink(0, job.width))
    compute(job, reducer, team, folder)
    n_shards = len(cut(job.source, reducer))
    if team.rank == 0:
        folder.describe(attributes)
        folder.finish(OK_FILE, partial(_save, folder.ok(n_shards)))


def _save(values: NDArray[np.bool_], beside: Path) -> None:
    with open(beside, "wb") as file:
        np.save(file, values)
