"""The page about pools does what it says: its Python runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_handler_of_lists_runs_as_printed(tmp_path: Path) -> None:
    """A hundred events, a hundred results, in order; nothing is left behind."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/pools.md").read_text(encoding="utf-8"), re.M | re.S)
    page = tmp_path / "page.py"
    page.write_text(code, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(page)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[98, 99, 100]"
    assert not result.stderr.strip()
