"""The scripts, and the digests by which the server calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from laneway.engine.stores.redis_scripts import script
from tests.redis_server import redis_server


def test_digests_are_those_that_a_server_gives(tmp_path: Path) -> None:
    """Each script compiles there."""
    with redis_server(tmp_path) as server:
        for name in ("enter", "write", "read"):
            assert script(name).digest.encode() in server.command("SCRIPT", "LOAD", script(name).text)


def test_there_are_no_others() -> None:
    """A wrong name is a mistake in the code."""
    with pytest.raises(FileNotFoundError):
        script("none")
