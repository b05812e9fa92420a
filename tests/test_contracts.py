"""The import contracts of pyproject.toml hold, and each of them catches the breach it is there for."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
NAMES = {contract["id"]: contract["name"] for contract in CONTRACTS}

BREACHES = [
    ("facade", "routing/planted.py", "from laneway import Lane"),
    ("facade", "actors/pools/planted.py", "from laneway.routing.absent import Nothing"),
    ("layers", "actors/pools/planted.py", "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    import laneway.engine.limits"),
    ("layers", "routing/planted.py", "def late():\n    from laneway.actors.directory.topics import parse"),
    ("engine", "engine/models/planted.py", "def late():\n    import laneway.engine.tooling.signature"),
    ("engine", "engine/stores/planted.py", "import laneway.engine.runtime"),
    ("engine", "engine/edge/planted.py", "import laneway.engine.app"),
    ("engine", "engine/planted.py", "A_MODULE_WITHOUT_A_LAYER = True"),
    ("inside", "actors/pools/planted.py", "def late():\n    import laneway.actors.dispatch.door"),
    ("inside", "actors/planted.py", "A_MODULE_WITHOUT_A_LAYER = True"),
    ("routing", "routing/planted.py", "def late():\n    import time"),
    ("pure", "actors/tools/retries.py", "import asyncio"),
    ("pure", "actors/sync/lib0.py", "from laneway.actors.tools import calls"),
    ("actors", "actors/pools/planted.py", "def late():\n    import grpc.aio"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages, of their links and of the contracts."""
    copy = tmp_path_factory.mktemp("tree")
    for package in ("routing", "actors", "engine"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "laneway", copy / "laneway", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def _broken(tree: Path) -> tuple[set[str], str]:
    """Return the ids of the contracts that the linter reports as broken, and all it said."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-logo", "--cache-dir", str(tree / "cache")]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=100, check=False)
    said = result.stdout + result.stderr
    broken = {key for key, name in NAMES.items() if f"{name} BROKEN" in said}
    assert result.returncode == (1 if broken else 0), said
    return broken, said


def test_contracts_hold(tree: Path) -> None:
    """The tree as it is breaks no contract; every contract has been looked at."""
    broken, said = _broken(tree)
    assert not broken, said
    assert all(f"{name} KEPT" in said for name in NAMES.values()), said


@pytest.mark.parametrize(("contract", "path", "code"), BREACHES, ids=[f"{c}-{p}" for c, p, _ in BREACHES])
def test_breach_is_reported(tree: Path, contract: str, path: str, code: str) -> None:
    """One planted import breaks exactly the contract that is there for it."""
    target = tree / path
    before = target.read_text(encoding="utf-8") if target.exists() else None
    target.write_text(f"{before or ''}\n{code}\n", encoding="utf-8")
    try:
        broken, said = _broken(tree)
    finally:
        if before is None:
            target.unlink()
        else:
            target.write_text(before, encoding="utf-8")
    assert broken == {contract}, said
    assert path.removesuffix(".py").replace("/", ".") in said


def test_every_contract_has_a_breach() -> None:
    """A contract without a planted breach would be believed, not tested."""
    assert {contract for contract, _, _ in BREACHES} == set(NAMES)
