"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

import laneway
from laneway.engine.cli.root import app


def test_help_names_every_command(runner: CliRunner) -> None:
    """One word each."""
    result = runner.invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in ("serve", "chat", "tail", "tools", "metrics", "dlq", "model", "doctor"):
        assert command in result.output


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
