"""A registry in this process, in virtual time, that can be down, hang or be restarted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from laneway.engine.runtime.beats import Terms
from laneway.engine.runtime.registry import Registry, RegistryActor
from laneway.routing.errors import RuntimeUnavailable

__all__ = ["TERMS", "NearRegistry"]

TERMS = Terms("s3cret", 0.5, 2.0)


class NearRegistry:
    """Stands for the NamedActor of a registry: the actor itself, and ways for it to fail."""

    name, namespace = "registry", "laneway/near"

    def __init__(self, version: str = "1") -> None:
        self.down = self.hangs = self.breaks = False
        self.calls: list[str] = []
        self._version = version
        self.restart()

    def restart(self) -> None:
        """Forget everybody, as a new process does."""
        clock = asyncio.get_running_loop().time
        self.actor = RegistryActor(TERMS.secret, self._version, TERMS.beat_s, TERMS.lost_s, clock)

    def client(self, version: str = "1") -> Registry:
        registry = Registry("near", version)
        registry._actor = self  # type: ignore[assignment]
        return registry

    async def call(self, method: str, *arguments: Any, timeout_s: float | None, attempts: int = 1) -> Any:
        assert attempts > 0
        self.calls.append(method)
        if self.down:
            raise RuntimeUnavailable("the registry is down")
        if self.breaks:
            raise RuntimeError("the connection to Ray is gone")
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        return await getattr(self.actor, method)(*arguments)

    async def close(self) -> None:
        task = self.actor._watch
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
