"""`make trace`: it runs, and the committed page shows what it shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "trace.md"


def _paths(page: str) -> set[tuple[str, ...]]:
    """Names from the root to each span of the tree on a page."""
    (tree,) = re.findall(r"^```\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    found: set[tuple[str, ...]] = set()
    above: list[str] = []
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        name = re.split(r"  +", line.strip())[0]
        above[indent // 2 :] = [name]
        found.add(tuple(above))
    return found


def test_the_committed_page_is_what_the_command_makes(tmp_path: Path) -> None:
    """The same spans below the same spans; times and order are left to chance."""
    written = tmp_path / "trace.md"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.trace", "--write", str(written)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert not result.stderr
    assert "every parent there" in result.stdout
    shown = _paths(PAGE.read_text(encoding="utf-8"))
    assert shown == _paths(written.read_text(encoding="utf-8"))
    assert ("send", "receive", "queue high") in shown
    assert "python -m examples.trace" in PAGE.read_text(encoding="utf-8")
    assert re.search(
        r"^trace:.*\n\t.* -m examples\.trace$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
