"""Every example runs alone, in a process of its own, and checks itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "__init__")


def test_there_are_examples() -> None:
    """The list below is not empty by accident."""
    assert {"hello", "tools", "publish"} <= set(EXAMPLES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.ray] if "ray" in name else []) for name in EXAMPLES]
)
def test_example_runs(name: str) -> None:
    """It exits 0, says something, and leaves no warning behind."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=250 if "ray" in name else 110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert not result.stderr.strip()
