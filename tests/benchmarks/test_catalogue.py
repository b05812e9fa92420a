"""The catalogue over HTTP: every request is answered by the same bytes, or there is no figure. No times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks import catalogue
from benchmarks.counts import Lost
from benchmarks.keepalive import Answer, Connections

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
EXPECTED = Answer(200, [("content-length", "4")], b"good")


@asynccontextmanager
async def _served(answer: Callable[[int], bytes | None]) -> AsyncIterator[Connections]:
    """Three connections to a server that says `answer(n)` to its n-th request; None = it hangs up."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                said = answer(asked)
                if said is None:
                    break
                for at in range(0, len(said), 30):
                    writer.write(said[at : at + 30])
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    connections = await Connections.open(f"{host}:{port}", "/x", 3)
    try:
        yield connections
    finally:
        connections.close()
        server.close()


async def _ask(answer: Callable[[int], bytes | None], patience_s: float = 10.0) -> list[float]:
    async with _served(answer) as connections:
        return await catalogue.answered(connections, 50, 100_000, EXPECTED, patience_s)


def test_requests_wait_for_a_connection() -> None:
    """Many more than there are connections, answers in pieces: each is answered once."""
    late_s = asyncio.run(_ask(lambda number: GOOD))
    assert len(late_s) == 50
    assert all(late >= 0 for late in late_s)


def test_an_answer_is_read_with_its_headers() -> None:
    """Names in lower case; the body by its length."""

    async def main() -> Answer:
        async with _served(lambda number: GOOD) as connections:
            return await connections.ask()

    assert asyncio.run(main()) == EXPECTED


@pytest.mark.parametrize(
    ("spoiled", "said"),
    [
        (GOOD.replace(b"good", b"evil"), "not those of the first answer"),
        (GOOD.replace(b"200 OK", b"503 No"), "not those of the first answer"),
        (GOOD + GOOD, "nobody asked for"),
        (None, "a connection ended"),
        (b"", "of 50 requests were answered"),
    ],
    ids=["other bytes", "refused", "twice", "hangs up", "never"],
)
def test_an_answer_that_is_missing_or_another_leaves_no_figure(spoiled: bytes | None, said: str) -> None:
    """One in fifty is enough."""
    with pytest.raises(Lost, match=said):
        asyncio.run(_ask(lambda number: spoiled if number == 7 else GOOD, 0.3))
