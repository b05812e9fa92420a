"""A model server in a process of its own: `python -m tests.e2e.upstream WORDS SLOTS` prints its URL.

It tells a tale of so many words, one a millisecond, whether it is read or not; asked with an answer
that was cut off, it goes on where that stopped, however often that happens.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from laneway.engine.models.endpoint import Endpoint
from laneway.engine.models.scripted import Answer, ScriptedServer

__all__ = ["Upstream", "tale"]

_BEGIN_S = 100.0
_GAP_S = 0.001


def tale(words: int) -> str:
    """Return it whole: 200 characters each word."""
    return " ".join(f"{number:05d}{'x' * 194}" for number in range(words))


def _told(words: int, request: Mapping[str, Any]) -> Answer:
    messages = request["messages"]
    newest = messages[-1]
    before = str(newest["content"]) if newest["role"] == "assistant" else ""
    whole = tale(words)  # each part of it, wherever it begins, is in it once: words are numbered
    return Answer(whole[whole.index(before) + len(before) :], pushes=True, gap_s=_GAP_S)


class Upstream:
    """The server as a test sees it."""

    def __init__(self, words: int, slots: int = 100) -> None:
        self._arguments = (str(words), str(slots))
        self.url = ""

    async def __aenter__(self) -> Upstream:
        command = (sys.executable, "-m", "tests.e2e.upstream", *self._arguments)
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        assert self._process.stdout is not None
        async with asyncio.timeout(_BEGIN_S):
            self.url = (await self._process.stdout.readline()).decode().strip()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it ends with this process, however that ends
        async with asyncio.timeout(_BEGIN_S):
            await self._process.wait()

    async def slots(self) -> dict[str, int]:
        """What it tells of itself."""
        told: dict[str, int] = await Endpoint(self.url.removesuffix("/v1")).get_json("/slots")
        return told

    async def reaches(self, **figures: int) -> dict[str, int]:
        """Wait until it tells these figures."""
        told: dict[str, int] = {}
        try:
            async with asyncio.timeout(_BEGIN_S):
                while not figures.items() <= (told := await self.slots()).items():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise AssertionError(f"it does not reach {figures}, but tells {told}") from error
        return told


async def _main(words: int, slots: int) -> None:
    async with ScriptedServer(lambda request: _told(words, request), slots=slots) as server:
        print(server.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
