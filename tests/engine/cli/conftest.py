"""A server for the commands that talk to one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.e2e.serving import Server

SETUP = '''
async def weather(city: str, unit: str = "C") -> str:
    """Today's weather in a city."""
    return f"sunny in {city}"


def setup(engine):
    engine.tools.add(weather)
'''


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands in this process, without this person's settings."""
    import os

    for name in list(os.environ):
        if name.startswith("LANEWAY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Target of a server with the scripted model and one tool."""
    directory: Path = tmp_path_factory.mktemp("served")
    (directory / "mysetup.py").write_text(SETUP)
    loop = asyncio.new_event_loop()
    server = Server("engine.db", "--setup", "mysetup:setup", model="scripted", cwd=directory)
    loop.run_until_complete(server.__aenter__())
    try:
        yield server.target
        assert loop.run_until_complete(server.stop())[0] == 0
    finally:
        loop.run_until_complete(server.__aexit__(None, None, None))
        loop.close()
