"""Mutual TLS between a served front and its hosts on a real Ray: settings are all it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from laneway import Client
from tests.e2e.serving import Server
from tests.engine.edge.certificates import Authority

pytestmark = pytest.mark.ray


def settings(directory: Path, authority: Authority, trusted: Authority, ready_s: float) -> Path:
    """Hosts with certificates of one authority that believe another one's."""
    certificate, key = authority.leaf("hosts")
    path = directory / f"{trusted.root.parent.name}.toml"
    path.write_text(
        f'[runtime]\nkind = "ray"\ncluster = "tls"\nready_s = {ready_s}\nlost_s = 10\ntls_cert = "{certificate}"\n'
        f'tls_key = "{key}"\ntls_ca = "{trusted.root}"\n',
        encoding="utf-8",
    )
    return path


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(200):
            await main

    asyncio.run(bounded())


def test_hosts_speak_tls_when_the_settings_say_so(tmp_path: Path) -> None:
    """A run goes to the model's host and back; with certificates of a stranger no host is reached."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "theirs")

    async def main() -> None:
        options = ("--config", str(settings(tmp_path, ours, ours, 120)), "--runtime", "ray")
        async with Server("memory", *options) as server, Client(server.target, session="s") as client:
            receipt = await client.send("Hello")
            async for event in client:
                if event.run == receipt.run and event.ends_run:
                    assert event.kind == "RUN_FINISHED"
                    break
        options = ("--config", str(settings(tmp_path, ours, theirs, 10)), "--runtime", "ray")
        with pytest.raises(AssertionError, match="could not connect to them"):
            async with Server("memory", *options):
                pass

    run(main())
