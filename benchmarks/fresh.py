"""A work in a process of its own: ``python -m benchmarks.fresh NAME SIZE`` does it once for every line it reads.

It says ``ready`` first, and after each time its peak of memory so far.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmarks.works import WORKS


def peak_mb() -> float | None:
    """Most memory that this process has held so far, in millions of bytes; none where the system does not say."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024 / 1e6 if status.exists() else None


if __name__ == "__main__":
    work, size = WORKS[sys.argv[1]], int(sys.argv[2])
    work.ours(1)
    print("ready", flush=True)
    for _ in sys.stdin:
        work.ours(size)
        print(json.dumps(peak_mb()), flush=True)
