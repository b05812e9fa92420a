"""Two regions: every edit is in the other replica, whatever the way; one that does not come leaves no figure."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import regions
from benchmarks.counts import Lost
from benchmarks.measure import Stopwatch
from laneway.engine.documents.replica import Replica


def test_edits_of_both_regions_arrive() -> None:
    """Made near and far by turns, over an engine of its own."""
    watch = Stopwatch()
    assert asyncio.run(regions.regions(4, 0.01)(watch)) == 4
    assert {"p50_ms", "p99_ms", "near_p50_ms", "far_p50_ms"} <= watch.notes.keys()
    assert watch.notes["near_p50_ms"] >= 10
    assert watch.notes["far_p50_ms"] >= 10


def test_the_relay_holds_everything_in_order() -> None:
    """Both ways, to the last byte; it ends with either side."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with regions.relay(address, 0.01) as through:
                host, _, port = through.rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                sent = b"".join(number.to_bytes(2, "big") for number in range(20_000))
                begun = asyncio.get_running_loop().time()
                for at in range(0, len(sent), 1000):
                    writer.write(sent[at : at + 1000])
                    await writer.drain()
                writer.write_eof()
                assert await reader.read(-1) == sent
                assert asyncio.get_running_loop().time() - begun >= 0.02
                writer.close()

    asyncio.run(main())


def test_an_edit_that_does_not_come_leaves_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that is allowed for it."""
    monkeypatch.setattr(regions, "_PATIENCE_S", 0.05)

    class Deaf:
        """A region that hears nothing, and whose edits go nowhere."""

        def __init__(self) -> None:
            self.replica = Replica("notes")

        async def type(self, char: str) -> None:
            self.replica.insert_text(0, char)

        async def until(self, text: str) -> float:
            await asyncio.Event().wait()
            raise AssertionError

    async def main() -> None:
        with pytest.raises(Lost, match="edit 7 did not come"):
            await regions._one(Deaf(), Deaf(), 7)  # type: ignore[arg-type]

    asyncio.run(main())
