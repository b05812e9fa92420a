"""What an engine measures goes to its own counters, or to the embedder's port."""

from __future__ import annotations

import subprocess
import sys

from laneway import Engine
from laneway.engine.telemetry.counters import Counters


def test_engine_counts_for_itself_unless_it_is_given_a_probe() -> None:
    """The embedder's port replaces the counters as the place where the engine counts."""
    own = Engine()
    assert own.telemetry.probe is own.telemetry.counters
    probe = Counters()
    assert Engine(probe=probe).telemetry.probe is probe


def test_engine_without_a_receiver_loads_no_opentelemetry() -> None:
    """Whoever does not export traces does not pay for the SDK's import."""
    code = "import sys; from laneway import Engine; Engine(); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
