"""What `laneway serve` writes to stderr."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.cli.telling import told
from laneway.engine.client import Client
from laneway.engine.sections import TelemetryConfig
from laneway.routing.errors import StoreError
from tests.e2e.serving import Server

SETUP = '''
import logging
import warnings


async def shout(word: str) -> str:
    """Log it."""
    logging.getLogger("laneway.tools.shout").warning("said %s, password=%s\\u2028\\x1b[31m", word, "hunter2hunter2")
    raise ValueError("token=hunter2hunter2")


def setup(engine):
    engine.tools.add(shout)
    warnings.warn("set up", stacklevel=1)
'''


def test_a_server_writes_one_json_object_a_line(tmp_path: Path) -> None:
    """Ready on stdout, all else as JSON on stderr: warnings, a tool's own logs, the drain; no secrets."""
    (tmp_path / "loud.py").write_text(SETUP)

    async def main() -> Server:
        async with asyncio.timeout(60), Server("memory", "--setup", "loud:setup", cwd=tmp_path) as server:
            async with Client(server.target, session="s1") as client:
                await client.call_tool("shout", {"word": "hello"})
            assert (await server.stop())[0] == 0
        return server

    server = asyncio.run(main())
    lines = [json.loads(line) for line in server.errors.splitlines()]
    assert all(line["ts"].endswith("Z") and line["level"] and line["message"] for line in lines)
    by_logger = {line["logger"]: line for line in lines}
    assert "set up" in by_logger["py.warnings"]["message"]
    assert by_logger["laneway.tools.shout"]["message"] == "said hello, password=[redacted]\\u2028\\x1b[31m"
    assert any("laneway drains" in line["message"] for line in lines)
    assert "hunter2" not in server.errors


def test_text_can_be_asked_for_and_levels_as_well(tmp_path: Path) -> None:
    """`--log-format text`; `--log-level error` leaves out the word of the drain."""

    async def errors(*options: str) -> str:
        async with asyncio.timeout(60), Server("memory", *options, cwd=tmp_path) as server:
            await server.stop()
        return server.errors

    assert "info     laneway.engine.cli.serve: laneway drains" in asyncio.run(errors("--log-format", "text"))
    assert asyncio.run(errors("--log-level", "error")) == ""


def test_a_failure_after_the_settings_is_a_line_as_well(served: str, runner: CliRunner) -> None:
    """With its code, and exit code 1."""
    result = runner.invoke(app, ["serve", "--grpc", served, "--store", "memory", "--model", "synthetic"])
    assert result.exit_code == 1
    line = json.loads(result.stderr.splitlines()[-1])
    assert (line["level"], line["code"]) == ("critical", "CONFIG")
    assert served in line["message"]


@pytest.mark.parametrize(("error", "code"), [(StoreError("no disk"), "STORE_FAILED"), (ValueError("a bug"), None)])
def test_whatever_ends_a_server_is_logged(
    error: Exception, code: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug with its traceback."""
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")
    with pytest.raises(typer.Exit) as ended, told(TelemetryConfig()):
        raise error
    assert ended.value.exit_code == 1
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line.get("code"), "traceback" in line) == ("critical", code, code is None)
