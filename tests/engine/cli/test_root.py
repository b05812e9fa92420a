"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

import laneway
from laneway.engine.cli.root import app


def test_help_names_every_command(runner: CliRunner) -> None:
    """One word each."""
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("serve", "chat", "tail", "tools", "metrics", "dlq", "model", "doctor"):
        assert command in result.output


def test_no_help_is_taken_for_markup() -> None:
    """What stands in brackets would vanish from the page."""
    from rich.text import Text

    def texts(command: Any) -> Iterator[str]:
        yield command.help or ""
        yield from (getattr(parameter, "help", "") or "" for parameter in command.params)
        for below in getattr(command, "commands", {}).values():
            yield from texts(below)

    for text in texts(get_command(app)):
        assert Text.from_markup(text).plain == text


def test_version(runner: CliRunner) -> None:
    """And nothing else."""
    assert runner.invoke(app, ["--version"]).output == f"laneway {laneway.__version__}\n"


def test_an_error_is_one_line_and_exit_code_1(runner: CliRunner) -> None:
    """With its code; a traceback is for bugs."""
    result = runner.invoke(app, ["serve", "--runtime", "cloud"])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "[CONFIG]" in result.stderr


def test_the_commands_load_nothing_heavy() -> None:
    """`laneway --help` starts without gRPC, pydantic, rich's tables, the model or the store."""
    heavy = ("grpc", "pydantic", "ray", "pycrdt", "sqlite3", "mcp", "uvloop")
    code = f"import sys, laneway.engine.cli.root; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
