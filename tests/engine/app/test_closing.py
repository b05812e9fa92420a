"""What hangs while it is closed keeps nobody from closing the rest."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.app.closing import close_patiently


class Thing:
    """Closes at once, or never."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.closed = False
        self._hangs = hangs

    async def close(self) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        self.closed = True


def test_one_that_hangs_is_left_behind_and_said_so(caplog: pytest.LogCaptureFixture) -> None:
    """The next one is closed all the same; the log names the one that is not."""
    hanging, quick = Thing(hangs=True), Thing()
    asyncio.run(close_patiently({"the model": hanging, "the tools": quick}, within_s=0.01))
    assert (hanging.closed, quick.closed) == (False, True)
    assert [record.getMessage() for record in caplog.records] == [
        "the model did not close within 0.01 s and was left behind"
    ]
