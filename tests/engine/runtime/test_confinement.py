"""The layers of confinement, in processes of their own, the portable fallback included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from laneway.engine.runtime import confinement

_CHILD = """
import json, os, runpy, socket, subprocess, sys
module = runpy.run_path(sys.argv[1])
request = json.loads(sys.argv[2])
if request["only_audit"]:
    module["_audit"](request["scratch"], processes=False)
    layers = ["audit"]
else:
    layers = module["confine"](request["scratch"], request["limits"])

def told(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"

outside, inside = request["outside"], os.path.join(request["scratch"], "mine")
print(json.dumps({
    "layers": layers,
    "write inside": told(lambda: open(inside, "w").close()),
    "write outside": told(lambda: open(outside, "w").close()),
    "remove outside": told(lambda: os.remove(sys.argv[3])),
    "read outside": told(lambda: open(sys.argv[1]).close()),
    "write to null": told(lambda: open(os.devnull, "w").close()),
    "fork": told(lambda: os.fork() or os._exit(0)),
    "spawn": told(lambda: subprocess.run([sys.executable, "-c", ""])),
    "signal": told(lambda: os.kill(os.getppid(), 0)),
    "socket": told(lambda: socket.socket().close()),
}))
"""
LIMITS = {"memory_bytes": 1 << 30, "file_bytes": 1 << 20, "open_files": 64, "processes": False, "network": False}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel layers are Linux's")


def attempt(tmp_path: Path, *, only_audit: bool, **limits: Any) -> dict[str, Any]:
    scratch, victim = tmp_path / "scratch", tmp_path / "victim"
    scratch.mkdir()
    victim.touch()
    request = {
        "scratch": str(scratch),
        "outside": str(tmp_path / "outside"),
        "limits": LIMITS | limits,
        "only_audit": only_audit,
    }
    command = [sys.executable, "-I", "-c", _CHILD, confinement.__file__, json.dumps(request), str(victim)]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert victim.exists()
    assert not (tmp_path / "outside").exists()
    return told


@LINUX
def test_the_kernel_refuses(tmp_path: Path) -> None:
    """Reading and the scratch directory stay; writing elsewhere, processes, signals and sockets go."""
    told = attempt(tmp_path, only_audit=False)
    assert told["layers"][0] == "rlimit"
    if told["layers"] != ["rlimit", "landlock", "seccomp"]:
        pytest.skip(f"this kernel offers {told['layers']} only")
    assert told["write inside"] == told["read outside"] == told["write to null"] == "done"
    assert told["write outside"] == told["remove outside"] == told["signal"] == told["socket"] == "PermissionError"
    assert told["fork"] == told["spawn"] == "BlockingIOError"


@LINUX
def test_network_can_be_left_open(tmp_path: Path) -> None:
    """Sockets are refused only without `network`."""
    assert attempt(tmp_path, only_audit=False, network=True)["socket"] == "done"


def test_the_fallback_refuses_the_same_to_python_code(tmp_path: Path) -> None:
    """Without Landlock and seccomp the audit hook denies writing elsewhere and starting processes."""
    told = attempt(tmp_path, only_audit=True)
    assert told["write inside"] == told["read outside"] == told["write to null"] == "done"
    assert told["write outside"] == told["remove outside"] == "PermissionError"
    assert told["fork"] == told["spawn"] == told["signal"] == "BlockingIOError"
