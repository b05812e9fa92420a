"""Build sdist -> wheel, install it into an empty environment, and use it there.

Run by `make package`. Also builds from `git archive`, as a source download would, and compares.
Prints what it does and exits 1 at the first difference.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MUST_HAVE = (
    "laneway/__init__.py",
    "laneway/py.typed",
    "laneway/routing/envelope.py",
    "laneway/routing/py.typed",
    "laneway/actors/sessions/session.py",
    "laneway/actors/py.typed",
    "laneway/engine/app/engine.py",
    "laneway/engine/py.typed",
    "laneway/engine/proto/laneway/v1/edge.proto",
)
SMOKE = """
import asyncio, sys
from importlib.metadata import version
import laneway
assert laneway.__version__ == version("laneway"), laneway.__version__
assert "site-packages" in laneway.__file__, laneway.__file__
assert not {"ray", "grpc", "opentelemetry", "mcp", "starlette"} & set(sys.modules)

async def main():
    async with laneway.Engine() as engine:
        @engine.pool("shout", kinds=["SHOUT"])
        async def shout(event, context):
            return laneway.Out("CUSTOM", event.body.upper())
        async with engine.session("s1") as session:
            await session.send_event("SHOUT", b"hello")
            async for event in session:
                assert event.body == b"HELLO", event
                break
asyncio.run(main())
print("smoke: ok")
"""


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    print("$", *(str(part).replace(str(ROOT), ".") for part in command), flush=True)
    result = subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True, timeout=900, check=False
    )
    if result.returncode:
        sys.exit(f"{result.stdout}\n{result.stderr}\nfailed with {result.returncode}")
    return result.stdout


def _wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def _build(source: Path, out: Path) -> tuple[Path, Path]:
    """Build sdist, and the wheel from that sdist (not from the tree)."""
    _run(sys.executable, "-m", "build", "--outdir", out, source)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


def main() -> None:
    """Build twice, compare, install, use."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        sdist, wheel = _build(ROOT, work / "tree")
        names = _wheel_names(wheel)
        missing = [path for path in MUST_HAVE if path not in names]
        if missing:
            sys.exit(f"{wheel.name} built from {sdist.name} lacks {missing}")
        (work / "archive").mkdir()
        _run("git", "archive", "--format=tar", "-o", work / "source.tar", "HEAD")
        with tarfile.open(work / "source.tar") as tar:
            tar.extractall(work / "archive", filter="data")
        _, archived = _build(work / "archive", work / "from-archive")
        difference = {n for n in _wheel_names(archived) ^ names if "__pycache__" not in n}
        if difference:
            print(f"note: tree and last commit differ in {sorted(difference)[:10]}")
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        _run(python, "-m", "pip", "install", "--quiet", wheel, cwd=work)
        print(_run(python, "-c", SMOKE, cwd=work), end="")
        _run(work / "venv" / "bin" / "laneway", "--help", cwd=work)
        print(f"{wheel.name}: {len(names)} files, installs and runs in an empty environment")


if __name__ == "__main__":
    main()
