"""Every measurement in one command: ``python benchmarks``.

Each compares with a peer or with the plain way in one run and prints ratios. ``python benchmarks
rank`` runs one of them; ``--json FILE`` keeps the numbers, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import attention
import bf16
import choosing
import embed
import enformer
import genome
import import_time
import layers
import long_runs
import million
import rank
import regions
import regions_published
import tokens
import tracks
import train

BENCHMARKS: dict[str, Callable[[], dict[str, float]]] = {
    "import_time": import_time.main,
    "rank": rank.main,
    "genome": genome.main,
    "tokens": tokens.main,
    "embed": embed.main,
    "bf16": bf16.main,
    "attention": attention.main,
    "long_runs": long_runs.main,
    "million": million.main,
    "regions": regions.main,
    "regions_published": regions_published.main,
    "train": train.main,
    "choosing": choosing.main,
    "layers": layers.main,
    "enformer": enformer.main,
    "tracks": tracks.main,
}
VERSIONS = (
    "torch",
    "numpy",
    "scipy",
    "numba",
    "pytorch-lightning",
    "transformers",
    "tokenizers",
    "enformer-pytorch",
)


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.is_file() else [])
        if line.startswith("model name")
    ]
    return {
        "date": date.today().isoformat(),
        "processor": f"{len(names)} × {names[0]}" if names else platform.processor(),
        "system": platform.platform(),
        "load": f"{os.getloadavg()[0]:.1f} before the first, with {os.cpu_count()} processors",
        "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="all by default")
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    options = parser.parse_args()
    measured_on = machine()
    found: dict[str, dict[str, float]] = {}
    for name in options.names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        found[name] = BENCHMARKS[name]()
    if options.json:
        content = {"machine": measured_on, **found}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
