"""`make demo RUNTIME=ray`: it shows what it promises, says what is missing, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import clean_environment
from tests.engine.conftest import ray_address as ray_address

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
_DEMO = (sys.executable, "-W", "error", "-m", "examples.demo", "--model", "synthetic", "--runtime", "ray")
_MARK = "LANEWAY_DEMO_OF"
_WITHIN_S = 240.0
"""A bound; the demo has deadlines of its own."""
_ROWS = ("books balance", "critical events lost", "taken and answered", "a process for each", "retried by parentRunId")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory for temporary files with a short name: Ray has sockets below it."""
    made = Path(tempfile.mkdtemp(prefix="d-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


def environment(scratch: Path, **more: str) -> dict[str, str]:
    """What a demo of its own begins with, marked so that all its processes can be found.

    One that joins the Ray of these tests needs what that one left in this process: its token.
    """
    joins = {name: value for name, value in os.environ.items() if name.startswith("RAY_") and "RAY_ADDRESS" in more}
    patience = {"LANEWAY_RUNTIME__READY_S": "150"}
    return {**clean_environment(), **patience, **joins, "TMPDIR": str(scratch), _MARK: uuid.uuid4().hex, **more}


def alive(environ: dict[str, str]) -> list[str]:
    """The processes that began with this environment."""
    found, mark = [], f"{_MARK}={environ[_MARK]}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended meanwhile
            continue
    return found


def test_the_demo_on_ray_shows_what_it_promises(scratch: Path) -> None:
    """Hosts are processes of their own, two of them are killed at work and come back, nothing that was accepted is
    lost; afterwards no process and no file is left but Ray's own logs."""
    environ = environment(scratch)
    result = subprocess.run(
        _DEMO, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_WITHIN_S, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "SYNTHETIC" in result.stdout
    for row in _ROWS:
        assert re.search(rf"{row}\s+│ ✓", result.stdout), row
    for host in ("work", "nlp"):
        assert re.search(rf"kill -9 of host/{host}/0\s+│ ✓ pid \d+; a cell again after [\d,]+ ms", result.stdout)
    assert set(re.findall(r"(\S+)\s+│ pid \d+, node", result.stdout)) > {"host/nlp/0", "host/tools/0", "host/work/0"}
    assert "Traceback" not in result.stderr
    assert alive(environ) == []
    assert [path.name for path in scratch.iterdir()] == ["ray"]


def test_hosts_that_ray_cannot_place_end_it_with_a_sentence(ray_address: str, scratch: Path) -> None:
    """In a Ray that runs already: status 1, what was asked of it and what it has; that Ray goes on."""
    settings = {"LANEWAY_RUNTIME__CPUS": "200", "LANEWAY_RUNTIME__READY_S": "3"}
    environ = environment(scratch, RAY_ADDRESS=ray_address, **settings)
    result = subprocess.run(
        _DEMO, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_WITHIN_S, check=False
    )
    told = " ".join(result.stdout.split())
    assert result.returncode == 1, told
    assert (
        "the demo could not run: RUNTIME_UNAVAILABLE/NOT_READY: not ready after 3 s: host/nlp/0, host/tools/0" in told
    ), told
    assert "CPU 200" in told
    assert "give hosts less (runtime.cpus" in told
    assert not result.stderr
    assert alive(environ) == []
    assert list(scratch.iterdir()) == []


def test_an_interrupt_ends_everything(ray_address: str, scratch: Path) -> None:
    """Ctrl-C while clients play: a word, and no process or file is left; the Ray that ran before goes on."""
    environ = environment(scratch, RAY_ADDRESS=ray_address)
    with subprocess.Popen(
        _DEMO, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("done: ") for line in process.stdout)
        os.killpg(process.pid, signal.SIGINT)
        said, complaints = process.communicate(timeout=_WITHIN_S)
    assert process.returncode == 130, said
    assert "stopped" in said
    assert "Traceback" not in complaints, complaints
    assert alive(environ) == []
    assert list(scratch.iterdir()) == []
