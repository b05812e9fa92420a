"""The image's recipe: a linter agrees, what it copies is enough, and its commands work in a bare environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.e2e.serving import clean_environment, listening

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
WITHIN_S = 60.0


def _instructions() -> list[tuple[str, str]]:
    """Return (instruction, rest) in order; continued lines are joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def _all(word: str) -> list[str]:
    return [rest for instruction, rest in _instructions() if instruction == word]


def _copied() -> list[str]:
    """Return what is copied from the checkout."""
    return [
        source
        for rest in _all("COPY")
        if "--from=" not in rest
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]
    ]


def _environment() -> dict[str, str]:
    return {name: value for rest in _all("ENV") for name, value in (pair.split("=", 1) for pair in rest.split())}


def test_hadolint_has_nothing_to_say() -> None:
    """Syntax, and the rules for images."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """The ignore file lets exactly these through."""
    assert all((ROOT / source).exists() for source in _copied())
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(_copied())


def test_the_image_gives_up_what_it_does_not_need() -> None:
    """Two stages, nothing built in the second; no root; commands in exec form, so that signals arrive."""
    stages = [index for index, (word, _) in enumerate(_instructions()) if word == "FROM"]
    assert len(stages) == 2
    final = _instructions()[stages[1] :]
    assert not any("pip" in rest or "apt" in rest for word, rest in final if word == "RUN")
    assert ("USER", "10001:10001") in final
    assert json.loads(_all("ENTRYPOINT")[0]) == ["laneway"]
    assert json.loads(_all("HEALTHCHECK")[0].partition("CMD ")[2]) == ["laneway", "ready"]
    assert {source for rest in _all("COPY") for source in re.findall(r"--from=(\w+)", rest)} == {"build"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`laneway` from a wheel that was built from the copied files alone, in a bare environment.

    What it depends on is lent by this environment: installing that too would take minutes.
    """
    work = tmp_path_factory.mktemp("image")
    for source in (source for source in _copied() if not source.startswith("deploy/")):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, work / source, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, work / source)
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", work / "wheels", work)
    (wheel,) = (work / "wheels").glob("laneway-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/METADATA").decode()
    for extra in re.findall(r"\[([\w,]+)\]", _all("RUN")[0])[0].split(","):
        assert f"Provides-Extra: {extra}\n" in metadata
    _run(sys.executable, "-m", "venv", "--without-pip", work / "bare")
    _run(sys.executable, "-m", "pip", "--python", work / "bare/bin/python", "install", "--quiet", "--no-deps", wheel)
    return work / "bare" / "bin" / "laneway"


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 0, done.stderr


def _in_image(program: Path, **more: str) -> dict[str, str]:
    """Return the environment of the image, as far as it can be here."""
    own = {name: value for name, value in _environment().items() if name not in ("PATH", "LANEWAY_CACHE")}
    return clean_environment(
        **{**own, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": sysconfig.get_path("purelib"), **more}
    )


def test_it_refuses_to_be_open_to_everybody(program: Path, tmp_path: Path) -> None:
    """The image's own addresses, and nothing set: one sentence that says what to set."""
    done = subprocess.run(
        [program, "serve"], cwd=tmp_path, env=_in_image(program), capture_output=True, text=True, timeout=WITHIN_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "edge.grpc = 0.0.0.0:7700 can be reached from outside" in done.stderr


def test_it_serves_says_that_it_is_ready_and_drains(program: Path, tmp_path: Path) -> None:
    """ENTRYPOINT and CMD, HEALTHCHECK, STOPSIGNAL: what a container engine would do, in its order."""
    free = {"LANEWAY_EDGE__GRPC": "127.0.0.1:0", "LANEWAY_EDGE__HTTP": "127.0.0.1:0", "LANEWAY_STORE__URL": "memory"}
    process = subprocess.Popen(
        [program, "serve", "--model", "synthetic"],
        cwd=tmp_path,
        env=_in_image(program, **free),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        _, http = listening(process.stdout.readline())
        command = json.loads(_all("HEALTHCHECK")[0].partition("CMD ")[2])
        asked = _in_image(program, **{**free, "LANEWAY_EDGE__HTTP": http})
        done = subprocess.run(command, env=asked, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr
        process.send_signal(getattr(signal, _all("STOPSIGNAL")[0]))
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.communicate()
    assert list(tmp_path.iterdir()) == []
