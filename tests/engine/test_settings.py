"""The settings of an engine that was given none: the same as the checked ones, without what checks them."""

from __future__ import annotations

import subprocess
import sys

from laneway.engine.config import Config
from laneway.engine.settings import DEFAULTS

_CHECKS = ("pydantic", "pydantic_core", "annotated_types")
_OTHERS = (
    *("sqlite3", "tempfile", "shutil", "statistics", "importlib.metadata", "uvicorn", "msgpack.fallback"),
    *("pathlib", "uuid", "platform", "json", "hashlib", "random"),
    *("laneway.actors.nlp.runs", "laneway.actors.tools.calls", "laneway.engine.app.readings"),
)

_FIRST_EVENT = """
import asyncio, sys
from laneway import Engine, Out

async def main():
    async with Engine() as engine:
        @engine.pool("echo", ["ECHO"])
        async def echo(event, context):
            return Out("CUSTOM", event.body)
        async with engine.session("s") as session:
            await session.send_event("ECHO", b"x")
            async for event in session:
                assert event.body == b"x"
                break

asyncio.run(main())
print([name for name in NAMES if name in sys.modules], sum(name.startswith("laneway.") for name in sys.modules))
"""


def test_every_default_is_the_checked_one() -> None:
    """What a start reads without the checks is what `Config()` says, value by value."""
    checked = Config()
    for name in ("limits", "nlp", "runtime", "store", "telemetry", "tools"):
        section = vars(getattr(DEFAULTS, name))
        for field, value in section.items():
            if not field.startswith("_"):
                assert value == getattr(getattr(checked, name), field), f"{name}.{field}"
    assert DEFAULTS.session_policy() == checked.session_policy()
    assert DEFAULTS.dispatch_policy() == checked.dispatch_policy()
    assert DEFAULTS.overload_policy() == checked.overload_policy()


def test_what_is_not_held_comes_from_the_checked_ones() -> None:
    """Any other setting can be read as well."""
    assert DEFAULTS.edge == Config().edge
    assert DEFAULTS.store.sync == Config().store.sync


def test_a_first_event_loads_nothing_that_it_does_not_need() -> None:
    """An embedded engine with its defaults takes an event without the library of checks, and few modules of ours."""
    code = _FIRST_EVENT.replace("NAMES", repr(_CHECKS + _OTHERS))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    heavy, _, ours = result.stdout.strip().rpartition(" ")
    assert heavy == "[]"
    assert int(ours) <= 168
