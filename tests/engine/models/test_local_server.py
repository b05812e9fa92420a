"""The child that serves the local model, where it needs no weights: it ends with its parent's wish.

With weights it is under test in test_local_llm.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "laneway.engine.models.local_server"]


@pytest.mark.parametrize("setup", [b"", b"not json\n", b"{}\n"])
def test_without_a_set_up_it_ends(setup: bytes) -> None:
    """A parent that died or said nonsense leaves no process behind, and no address is told."""
    result = subprocess.run(COMMAND, input=setup, capture_output=True, timeout=60, check=False)
    assert result.returncode != 0
    assert result.stdout == b""


def test_a_missing_model_is_an_end_not_an_address(tmp_path: Path) -> None:
    """Weights that are not there end the process; nothing is served."""
    pytest.importorskip("xllamacpp", reason="needs the extra local-llm")
    setup = (
        f'{{"nice": 0, "model": "{tmp_path / "none.gguf"}", "slots": 1, "slot_tokens": 256, "threads": 1,'
        ' "api_key": "k", "alias": "m"}\n'
    )
    result = subprocess.run(COMMAND, input=setup.encode(), capture_output=True, timeout=60, check=False)
    assert result.returncode != 0
    assert b'"url"' not in result.stdout
