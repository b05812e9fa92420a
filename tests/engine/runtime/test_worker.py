"""One worker process by itself."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import pytest

from laneway.engine.runtime.worker import Worker, WorkerLimits
from laneway.routing.errors import RuntimeUnavailable


def test_it_starts_confined_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports its layers; after kill and reap neither process nor scratch directory remains."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        worker = await Worker.start(WorkerLimits())
        assert worker.layers
        assert worker.alive
        worker.kill()
        worker.kill()
        await worker.reap()
        assert not worker.alive

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/python"])
def test_a_worker_that_does_not_come_up_is_a_typed_error(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter that ends at once, or is missing, is RUNTIME_UNAVAILABLE; its directory is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "executable", program)

    async def main() -> None:
        with pytest.raises(RuntimeUnavailable):
            await Worker.start(WorkerLimits())

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []
