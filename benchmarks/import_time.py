"""What ``import glm`` costs, beside the libraries it must not drag in.

Each import runs in fresh interpreters, in turn, and the best of several counts: seconds beyond an
interpreter that imports nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time

IMPORTS = ("pass", "import glm", "import anndata", "import torch", "import scanpy")
REPEATS = 5


def main() -> dict[str, float]:
    """Measure, print a table, and return what it holds."""
    best = dict.fromkeys(IMPORTS, float("inf"))
    for _ in range(REPEATS):
        for code in IMPORTS:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            best[code] = min(best[code], time.perf_counter() - start)
    results = {
        f"{code.removeprefix('import ')}_seconds": best[code] - best["pass"] for code in IMPORTS[1:]
    }
    for name, seconds in results.items():
        print(f"import {name.removesuffix('_seconds'):8} {seconds:6.3f} s")
    results["anndata_to_glm"] = results["anndata_seconds"] / results["glm_seconds"]
    print(f"import anndata takes {results['anndata_to_glm']:.0f} times as long as import glm")
    return results


if __name__ == "__main__":
    main()
