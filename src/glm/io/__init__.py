"""Files of regions, annotations and training sets, read as they are written in the field."""

from __future__ import annotations

from ._bed import read_bed
from ._bigwig import read_bigwig
from ._gtf import read_gtf
from ._tfrecord import TFRecord, read_tfrecords
from ._write_bigwig import write_bigwig

__all__ = [
    "TFRecord",
    "read_bed",
    "read_bigwig",
    "read_gtf",
    "read_tfrecords",
    "write_bigwig",
]
