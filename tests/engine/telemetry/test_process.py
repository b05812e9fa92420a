"""What a process uses, on Linux and elsewhere."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from laneway.engine.telemetry.catalogue import BY_NAME
from laneway.engine.telemetry.process import memory_limit_bytes, process_readings

NOWHERE = Path("/nowhere")


def test_readings_are_of_this_process() -> None:
    """Names are the catalogue's; a descriptor that is opened is seen; nothing is older than the machine."""
    before = process_readings()
    assert set(before) <= set(BY_NAME)
    with open(os.devnull) as _:
        assert process_readings()["process_open_fds"] == before["process_open_fds"] + 1
    assert 0 < before["process_start_time_seconds"] <= time.time() + 1
    assert 1_000_000 < before["process_resident_memory_bytes"] < before["laneway_memory_limit_bytes"]
    assert before["process_open_fds"] < before["process_max_fds"]
    assert before["process_cpu_seconds_total"] > 0


def test_without_proc_the_standard_library_tells_what_it_can() -> None:
    """Processor time, peak memory and limits; nothing is guessed."""
    readings = process_readings(NOWHERE, NOWHERE)
    assert readings["process_cpu_seconds_total"] > 0
    assert readings["process_resident_memory_bytes"] > 1_000_000
    assert "process_virtual_memory_bytes" not in readings


def test_without_resource_even_less_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setitem(sys.modules, "resource", None)
    readings = process_readings(NOWHERE, NOWHERE)
    assert "process_resident_memory_bytes" not in readings
    assert "process_max_fds" not in readings
    assert readings["process_cpu_seconds_total"] > 0


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "4096", "memory.max": "8192"}, 4096),
        ("0::/a/b\n", {"a/b/memory.max": "1024", "a/memory.max": "4096"}, 1024),
        ("0::/\n", {"memory.max": "2048"}, 2048),
        ("5:cpu:/x\n4:memory,pids:/x\n", {"memory/x/memory.limit_in_bytes": "512"}, 512),
        ("0::/\n", {}, 0),
        ("0::/\n", {"memory.max": "max"}, 0),
    ],
)
def test_the_memory_limit_is_the_smallest_that_holds(
    membership: str, files: dict[str, str], limit: int, tmp_path: Path
) -> None:
    """Of the process's own group, those above it, and the machine (0 here: it has the most)."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(membership)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    machine = memory_limit_bytes(NOWHERE, NOWHERE)
    assert machine > 1_000_000
    assert memory_limit_bytes(tmp_path / "proc", tmp_path / "cgroup") == (limit or machine)
