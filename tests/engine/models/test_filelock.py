"""The lock between processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from laneway.engine.models.filelock import exclusive


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second holder waits, gives up at its deadline, and gets the lock once it is free."""

    async def main() -> None:
        async with exclusive(tmp_path / "lock", 1.0):
            with pytest.raises(TimeoutError):
                async with exclusive(tmp_path / "lock", 0.05):
                    raise AssertionError("two holders")
        async with exclusive(tmp_path / "lock", 1.0):
            pass

    asyncio.run(main())
