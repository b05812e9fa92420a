"""What this process uses of its machine, under the names Prometheus has for it.

Law of this file: read when asked, never kept. Linux tells everything in /proc. Elsewhere: processor
time from the standard library, memory as the peak so far (`getrusage` has no present value), open
descriptors where /dev/fd lists them; what a system cannot tell is left out, never guessed.

The memory limit is the smallest of the process's cgroup (version 2, each level above it included, or
version 1) and the machine's memory.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

__all__ = ["memory_limit_bytes", "process_readings"]

_PROC: Final = Path("/proc")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_STARTED: Final = time.time()
"""Near enough to the start of the process where the system does not tell it."""


def process_readings(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> dict[str, float]:
    """Return metric name -> value; what this system cannot tell is absent. About 0.1 ms."""
    readings: dict[str, float] = {
        "process_cpu_seconds_total": time.process_time(),
        "process_start_time_seconds": _STARTED,
        **_limits(),
        **_usage(),
        **_stat(proc),
    }
    for folder in (proc / "self" / "fd", Path("/dev/fd")):
        try:
            readings["process_open_fds"] = len(os.listdir(folder)) - 1  # less the listing's own
            break
        except OSError:
            continue
    limit = memory_limit_bytes(proc, cgroups)
    if limit:
        readings["laneway_memory_limit_bytes"] = limit
    return readings


def _stat(proc: Path) -> dict[str, float]:
    """Linux: fields 22, 23, 24 of proc(5) stat; the name in field 2 may hold anything."""
    try:
        fields = (proc / "self" / "stat").read_text().rpartition(")")[2].split()
        booted = next(
            int(line.split()[1]) for line in (proc / "stat").read_text().splitlines() if line.startswith("btime")
        )
        return {
            "process_start_time_seconds": booted + int(fields[19]) / os.sysconf("SC_CLK_TCK"),
            "process_virtual_memory_bytes": int(fields[20]),
            "process_resident_memory_bytes": int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        }
    except (OSError, ValueError, IndexError, StopIteration):
        return {}


def _usage() -> dict[str, float]:
    """Peak memory, where only that is known: bytes on macOS, KiB elsewhere."""
    try:
        import resource
    except ImportError:  # Windows
        return {}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"process_resident_memory_bytes": peak if sys.platform == "darwin" else peak * 1024}


def _limits() -> dict[str, float]:
    try:
        import resource
    except ImportError:  # Windows
        return {}
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {"process_max_fds": float("inf") if soft == resource.RLIM_INFINITY else soft}


def memory_limit_bytes(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int:
    """Return how much memory this process may use, or 0 if nothing tells it."""
    found = [limit for limit in (*_cgroup_limits(proc, cgroups), _machine_bytes()) if limit > 0]
    return min(found, default=0)


def _cgroup_limits(proc: Path, cgroups: Path) -> list[int]:
    """Limits of the process's own group and of those it is in; without one a file says "max"."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            found.append(_number_in(folder / name))
            if folder == root:
                break
    return found


def _number_in(path: Path) -> int:
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows; or unknown to this system
        return 0
