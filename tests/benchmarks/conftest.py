"""Rows of this process in virtual time: what is measured is then what was decided, and not the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from laneway.engine.app.clock import SystemClock
from tests.simulation import loop


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine, engines included, in virtual time."""
    monkeypatch.setattr(SystemClock, "now", staticmethod(lambda: asyncio.get_running_loop().time()))
    return loop.run
