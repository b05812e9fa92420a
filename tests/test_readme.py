"""The README does what it says: its Python runs, its commands and make targets exist."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from laneway import Context, Engine, Out
from laneway.engine.cli.root import app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = "\n".join(code for language, code in BLOCKS if not language)


class Forecaster:
    """Somebody's agent: asks the example's own tool and says what it heard."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        result = await context.call_tool("weather", {"city": "Oslo"})
        yield Out("TEXT_MESSAGE_START", entity="m1")
        yield Out("TEXT_MESSAGE_CONTENT", f"It is {result.content}.".encode(), "m1")
        yield Out("TEXT_MESSAGE_END", entity="m1")


def _block(word: str) -> str:
    (block,) = [code for code in PYTHON if word in code]
    return block


def test_the_embedding_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """As printed, with a model in place of `my_agent`: the tool is called and the answer streams out."""
    exec(compile(_block("asyncio.run"), "README.md", "exec"), {"my_agent": Forecaster()})
    assert "sunny in Oslo" in capsys.readouterr().out


def test_the_pool_example_runs() -> None:
    """As printed, with an engine around it: the event goes to the pool and its result comes back."""

    async def shrink(body: bytes) -> bytes:
        return body[:2]

    async def main() -> None:
        async with Engine() as engine:
            exec(compile(_block("thumbnail"), "README.md", "exec"), {"engine": engine, "Out": Out, "shrink": shrink})
            async with engine.session("s1") as session, asyncio.timeout(30):
                await session.send_event("IMAGE_UPLOADED", b"large")
                assert (await anext(session)).body == b"la"

    asyncio.run(main())


def test_every_python_block_is_run_here() -> None:
    """A new block needs a test above."""
    assert len(PYTHON) == 2


def test_its_commands_exist() -> None:
    """Each `laneway ...` line names a command with these options."""
    commands = re.findall(r"^laneway (\w+)([^#\n]*)", SHELL, re.MULTILINE)
    assert {name for name, _ in commands} >= {"serve", "chat", "tail", "doctor"}
    for name, rest in commands:
        result = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
        assert result.exit_code == 0, result.output
        plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
        assert [option for option in re.findall(r"--[\w-]+", rest) if option not in plain] == []


def test_its_make_targets_exist() -> None:
    """Each `make NAME` of the README and of CONTRIBUTING is a target."""
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    told = TEXT + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make (\w+)", told, re.MULTILINE))
    assert targets >= {"demo", "test", "check"}
    assert [name for name in sorted(targets) if not re.search(rf"^{name}:", rules, re.MULTILINE)] == []


def test_what_check_runs_is_what_ci_runs() -> None:
    """`.ci/run` is `make check`, and nothing else."""
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("exec ")] == ["exec make check"]
