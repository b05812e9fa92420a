"""What a figure means nothing without: machine, commit, date, versions.

Law of this file: it describes; it measures nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

__all__ = ["environment"]

_PEERS: Final = ("grpcio", "msgpack", "nats-py", "pykka")


def environment() -> dict[str, Any]:
    """Return machine, commit, date and the versions of what is compared."""
    root = Path(__file__).parent.parent
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _run(["git", "rev-parse", "--short=12", "HEAD"], root),
        "dirty": bool(
            _run(["git", "status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results"], root)
        ),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {**{name: _version(name) for name in _PEERS}, "nats-server": _nats_server()},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _nats_server() -> str:
    program = shutil.which("nats-server")
    return _run([program, "--version"]).removeprefix("nats-server: v") if program else ""


def _run(command: list[str], directory: Path | None = None) -> str:
    try:
        found = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""  # a source download has no history
    return found.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
