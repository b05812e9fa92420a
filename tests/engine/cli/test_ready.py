"""`laneway ready`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from laneway.engine.app.engine import Engine
from laneway.engine.app.serving import http_options, make_asgi
from laneway.engine.cli.root import app
from laneway.engine.config import Config
from laneway.engine.edge.http import HttpEdge
from tests.engine.edge.certificates import Authority
from tests.ports import held_port


def _asked(runner: CliRunner, port: int, **settings: str) -> Result:
    return runner.invoke(app, ["ready", "--http", f"127.0.0.1:{port}", "--timeout-s", "5"], env=settings)


@pytest.mark.parametrize("secured", [False, True], ids=["plain", "tls"])
def test_a_serving_engine_is_ready(runner: CliRunner, tmp_path: Path, secured: bool) -> None:
    """Exit code 0, with the settings that `serve` has: its certificate too."""
    settings: dict[str, str] = {}
    if secured:
        certificate, key = Authority(tmp_path).leaf("edge")
        settings = {"LANEWAY_EDGE__TLS_CERT": str(certificate), "LANEWAY_EDGE__TLS_KEY": str(key)}

    async def main() -> Result:
        config = Config.load(environ={**settings, "LANEWAY_EDGE__HTTP": "127.0.0.1:0"})
        async with Engine(config) as engine:
            edge = await engine.serve_http(**http_options(config))
            return await asyncio.to_thread(_asked, runner, edge.port, **settings)

    result = asyncio.run(main())
    assert (result.exit_code, result.output) == (0, "ready\n")


def test_an_engine_that_does_not_serve_is_not_ready(runner: CliRunner) -> None:
    """Exit code 1, and the engine's own words."""

    async def main() -> Result:
        engine = Engine()
        edge = HttpEdge(make_asgi(engine))
        try:
            return await asyncio.to_thread(_asked, runner, await edge.start())
        finally:
            await edge.close()
            await engine.close()

    result = asyncio.run(main())
    assert result.exit_code == 1
    assert result.output.startswith("503 ")
    assert "DRAINING" in result.output


def test_nobody_there_is_not_ready(runner: CliRunner) -> None:
    """Exit code 1, and where nobody answered."""
    with held_port() as port:
        result = _asked(runner, port)
    assert result.exit_code == 1
    assert f"no answer from 127.0.0.1:{port}" in result.output
