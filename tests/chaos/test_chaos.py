"""Every fault once, with a little load: the short form of `make chaos`.

Law of this file: the faults are made by one program in a process of its own, which starts everything once; each
has its test, which reads what that program found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.faults import FAULTS
from tests.e2e.serving import clean_environment
from tests.outside import require

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow, pytest.mark.ray]
_ROOT = Path(__file__).parents[2]
_WITHIN_S = 540.0


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each fault did."""
    require("redis-server", package="redis-server")
    told = tmp_path_factory.mktemp("chaos") / "rows.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--json", str(told)],
        cwd=_ROOT, env=clean_environment(), capture_output=True, text=True, timeout=_WITHIN_S, check=False,
    )  # fmt: skip
    assert told.exists(), done.stderr[-4000:]
    return {row["fault"]: row for row in json.loads(told.read_text())}


@pytest.mark.parametrize("fault", [fault.name for fault in FAULTS])
def test_a_fault_loses_nothing_and_does_nothing_twice(rows: dict[str, dict[str, Any]], fault: str) -> None:
    """It was seen to happen; what was accepted was done and told, once; what must not be repeated was not."""
    row = rows[fault]
    assert row["violations"] == []
    assert int(row["fired"]) >= 1
    assert (row["lost"], row["twice"]) == ("0", "0")
