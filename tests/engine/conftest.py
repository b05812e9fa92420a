"""A real local Ray for the modules that ask for it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from laneway.engine.runtime.ray_connection import RayConnection
from tests.ray_patience import patient_ray


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """A local Ray, as an engine starts it; the address of its head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        loop = asyncio.new_event_loop()
        connection = RayConnection("")
        before = dict(os.environ), signal.getsignal(signal.SIGTERM)
        with patient_ray():
            loop.run_until_complete(connection.open("laneway/tests"))
        import ray

        assert connection.local
        assert {name: os.environ.get(name) for name in before[0]} == before[0]
        assert signal.getsignal(signal.SIGTERM) is before[1]
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            loop.run_until_complete(connection.close())
            loop.close()
