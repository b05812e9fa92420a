"""Node scripts against a real server: where they are, and how they are run."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.outside import require

__all__ = ["NPM", "node", "node_script"]

NPM = Path(__file__).parent / "npm"
_SCRIPT_S = 90.0


def node() -> str:
    """Return node's path, once the packages of `tests/e2e/npm` are there too; see `outside.require`."""
    path = require("node", package="nodejs")
    if not (NPM / "node_modules").is_dir():
        why = "the packages of tests/e2e/npm are not installed: run `make test`, or `npm ci` there"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return path


async def node_script(name: str, plan: dict[str, Any]) -> Any:
    """Run one script of `tests/e2e/npm` with its plan, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        node(), str(NPM / name), json.dumps(plan), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_SCRIPT_S):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return json.loads(said)
