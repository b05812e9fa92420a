"""One worker process by itself."""

from __future__ import annotations

import asyncio
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


def test_a_worker_that_does_not_come_up_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little memory to confine itself is RUNTIME_UNAVAILABLE, and its directory is removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        with pytest.raises(RuntimeUnavailable):
            await Worker.start(WorkerLimits(memory_bytes=1))

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []
