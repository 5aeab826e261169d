"""The index of a FASTA file: believed only if it fits the file, made anew in one piece otherwise.

An index (.fai) has a line for each sequence: name, bases, place of the first base, bases and bytes
a line. Whether it fits is read from the file: between one sequence's last base and the next one's
first there must be that one's header and nothing else, lines must end where the index says, and so
must the file. So an index of another version of the file, or one that is cut short, does not pass.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from .._atomic import replacing
from .._settings import logger, settings

_LONGEST_HEADER = 1 << 16


def index_of(fasta: Path, *, compressed: bool) -> tuple[Path, Path | None]:
    """Where the index of a file is, made if need be; and that of its compressed blocks.

    It stands beside the file as ``.fai``, or in the cache (``glm.settings.data_dir``) where that
    folder cannot be written or the file is compressed.

    Raises
    ------
    ValueError
        If the file is no FASTA that can be indexed.
    """
    beside, cached = Path(f"{fasta}.fai"), _in_cache(fasta)
    if compressed:
        blocks = cached.with_suffix(".gzi")
        if not (cached.is_file() and blocks.is_file()):
            _build(fasta, cached, blocks)
        return cached, blocks
    for place in (beside, cached):
        if place.is_file() and _is_newer(place, fasta) and fits(place, fasta):
            return place, None
    if beside.is_file():
        logger.info("%s does not fit %s and is made anew", beside, fasta.name)
    if os.access(fasta.parent, os.W_OK):
        try:
            _build(fasta, beside, None)
        except OSError as error:  # a quota, or rights that the folder does not tell of
            logger.info("%s cannot be written (%s): the index goes to the cache", beside, error)
        else:
            return beside, None
    _build(fasta, cached, None)
    return cached, None


def _in_cache(fasta: Path) -> Path:
    status = fasta.stat()
    mark = f"{os.path.abspath(fasta)}\n{status.st_size}\n{status.st_mtime_ns}"
    key = hashlib.sha256(mark.encode()).hexdigest()[:16]
    return settings.data_dir / "indexes" / f"{fasta.name}.{key}.fai"


def _is_newer(index: Path, fasta: Path) -> bool:
    return index.stat().st_mtime >= fasta.stat().st_mtime


# ---- does it fit? --------------------------------------------------------------------------------


def fits(index: Path, fasta: Path) -> bool:
    """Whether an index describes this file; a few short reads for each sequence."""
    try:
        lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
        with open(fasta, "rb") as file:
            size, end = os.fstat(file.fileno()).st_size, 0
            for line in lines:
                found = _end_of(line, end, size, file) if line.endswith("\n") else None
                if found is None:
                    return False
                end = found
            file.seek(end)
            return bool(lines) and not file.read(_LONGEST_HEADER).strip()
    except (OSError, ValueError):
        return False


def _end_of(line: str, before: int, size: int, file: BinaryIO) -> int | None:
    """Where a sequence ends if its line of the index fits, ``None`` otherwise."""
    name, *numbers = line.rstrip("\n").split("\t")
    n_bases, first, n_line, width = (int(number) for number in numbers)
    if not (0 < n_line < width and n_bases > 0 and before < first <= before + _LONGEST_HEADER):
        return None
    file.seek(before)
    header = file.read(first - before).decode("utf-8").strip("\r\n")
    words = header[1:].split(maxsplit=1)
    if not header.startswith(">") or "\n" in header or not words or words[0] != name:
        return None
    n_whole, rest = divmod(n_bases, n_line)
    end = first + n_whole * width + rest - (0 if rest else width - n_line)
    ends_of_lines = {1, n_whole} if n_whole and end > first + n_line else set()
    for number in ends_of_lines:
        at = first + number * width - (width - n_line)
        if at < end and not _is_line_end(file, at, width - n_line):
            return None
    return end if end <= size and _is_base(file, end - 1) else None


def _is_line_end(file: BinaryIO, at: int, width: int) -> bool:
    file.seek(at - 1)
    around = file.read(width + 1)
    return around[:1].isalpha() and around[1:] in (b"\n", b"\r\n")


def _is_base(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(1).isalpha()


# ---- make it -------------------------------------------------------------------------------------


def _build(fasta: Path, target: Path, blocks: Path | None) -> None:
    """Let pyfaidx write it under another name, which is replaced when it is whole."""
    import pyfaidx

    logger.info("indexing %s", fasta)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if blocks is None:
            with replacing(target) as index:
                pyfaidx.Faidx(str(fasta), indexname=str(index)).close()
                _date(index, fasta)
        else:
            with replacing(target) as index, replacing(blocks) as gzi:
                pyfaidx.Faidx(str(fasta), indexname=str(index), gzi_indexname=str(gzi)).close()
                _date(index, fasta)
                _date(gzi, fasta)
    except pyfaidx.UnsupportedCompressionFormat as error:
        raise ValueError(f"{fasta} cannot be read: {error}") from None
    except (pyfaidx.FastaIndexingError, RuntimeError) as error:
        raise ValueError(
            f"{fasta} cannot be indexed: {error} Lines of a sequence have one length (only the "
            "last may be shorter) and no blank ones between; `seqkit seq -w 60` rewrites it so."
        ) from None
    except OSError as error:
        raise OSError(
            f"The index of {fasta} cannot be written to {target.parent}: "
            f"{error.__context__ or error}. Let GLM_DATA_DIR name a folder that can be written to."
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{fasta} is no FASTA file: it holds bytes that are no text.") from None
    except ValueError as error:
        raise ValueError(
            f"{fasta} has two sequences of one name ({error}). Rename or remove one of them: a "
            "region could be of either."
        ) from None


def _date(index: Path, fasta: Path) -> None:
    """No older than the file, even if that is dated in the future: pyfaidx goes by these times."""
    moment = max(index.stat().st_mtime_ns, fasta.stat().st_mtime_ns)
    os.utime(index, ns=(moment, moment))
