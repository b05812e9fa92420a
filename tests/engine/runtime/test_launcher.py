"""The launcher's protocol, spoken to it by hand."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from laneway.engine.runtime import launcher

ROGUE = Path(__file__).with_name("rogue_tools.py")
LIMITS = {"memory_bytes": 1 << 30, "file_bytes": 1 << 20, "open_files": 64, "processes": False, "network": True}


def frame(value: dict[str, Any]) -> bytes:
    data = json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


def call(target: str, **arguments: Any) -> bytes:
    return frame({"target": target, "arguments": arguments, "cpu_s": 5, "convert": False, "output_bytes": 1000})


def spoken(tmp_path: Path, *frames: bytes) -> tuple[list[dict[str, Any]], bytes]:
    setup = frame({"sys_path": [], "scratch": str(tmp_path), "limits": LIMITS})
    process = subprocess.run(
        [sys.executable, "-I", os.fspath(launcher.__file__)],
        input=setup + b"".join(frames),
        capture_output=True,
        check=True,
    )
    answers, rest = [], process.stdout
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        answers.append(json.loads(rest[4 : 4 + length]))
        rest = rest[4 + length :]
    return answers, process.stderr


def test_it_serves_calls_in_order_and_ends_with_its_input(tmp_path: Path) -> None:
    """Ready first, one answer per call, exit 0 at the end of input: a dead parent leaves no worker."""
    answers, _ = spoken(tmp_path, call(f"{ROGUE}:add", a=1), call("json:dumps", obj=None))
    assert "rlimit" in answers[0]["ready"] or sys.platform == "win32"
    assert answers[1:] == [{"value": "3"}, {"value": '"null"'}]
    assert spoken(tmp_path)[0] == answers[:1]


def test_every_failure_is_an_answer(tmp_path: Path) -> None:
    """Wrong arguments, sys.exit, endless recursion, unknown names and long results do not end the worker."""
    answers, _ = spoken(
        tmp_path,
        call(f"{ROGUE}:add"),
        call("sys:exit"),
        call("nowhere:f"),
        call("sys:nothing"),
        call("sys:path"),
        call(f"{ROGUE}:return_much"),
        call(f"{ROGUE}:add", a=1),
    )
    told = [(answer["error"]["kind"], answer["error"]["type"]) for answer in answers[1:-1]]
    assert told == [
        ("raised", "TypeError"),
        ("raised", "SystemExit"),
        ("target", "ModuleNotFoundError"),
        ("target", "AttributeError"),
        ("target", "TypeError"),
        ("output", "ValueError"),
    ]
    assert answers[-1] == {"value": "3"}


def test_prints_go_to_the_log_pipe(tmp_path: Path) -> None:
    """The protocol pipe carries frames only, whatever a callable prints."""
    answers, log = spoken(tmp_path, call(f"{ROGUE}:printing"), call(f"{ROGUE}:add", a=1))
    assert answers[1:] == [{"value": '"kept apart"'}, {"value": "3"}]
    assert log == b"noise on stdout\n"
