"""A Ray that may come up slowly: on a busy machine its own half minute is too short.

Law of this file: only how long is waited is changed, and only within the block; a Ray that does not come up is
an error as ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from laneway.engine.runtime import ray_connection

__all__ = ["patient_ray"]

_WITHIN_S: Final = 150.0


@contextmanager
def patient_ray() -> Iterator[None]:
    """Nodes that are started within the block have two and a half minutes to register with their head."""
    with ray_connection._environment():  # as an engine imports it
        import ray._private.services

    look = ray._private.services.get_node

    def patiently(*arguments: Any) -> Any:
        """Ray's node gives up 30 s after its start, but not while it looks itself up."""
        until = time.monotonic() + _WITHIN_S
        while True:
            try:
                return look(*arguments)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)  # it tells nobody when

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray._private.services.get_node", patiently)
        patch.setattr(ray_connection, "_OPEN_S", _WITHIN_S + 30.0)
        yield
