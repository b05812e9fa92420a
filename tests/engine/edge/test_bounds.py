"""The limits of a connection, and who watches them."""

from __future__ import annotations

import asyncio
import socket

from laneway.engine.edge.bounds import Bounds, ConnectionBook, Stall, keep_kernel_lean


class _Transport(asyncio.Transport):
    """Holds some bytes that nobody reads."""

    def __init__(self, raw: socket.socket | None = None) -> None:
        super().__init__({"socket": raw})
        self.size = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def test_a_peer_that_reads_something_is_not_cut_off() -> None:
    """One of whose bytes nothing goes is."""

    async def main() -> None:
        transport = _Transport()
        stall = Stall(transport, 0.01)
        transport.size = 100
        stall.watch()
        transport.size = 50
        stall._look()
        assert not transport.aborted
        stall._look()
        assert transport.aborted
        stall.stop()

    asyncio.run(main())


def test_the_kernel_holds_little_and_gives_up_in_time() -> None:
    """What it cannot be told is left; another sort of socket too."""
    with socket.socket() as raw:
        keep_kernel_lean(_Transport(raw), 7.0)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 14_000
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536
    with socket.socket(socket.AF_UNIX) as raw:
        keep_kernel_lean(_Transport(raw), 7.0)
    keep_kernel_lean(_Transport(), 7.0)


def test_the_date_is_made_once_a_second() -> None:
    """And whoever waits for the last connection is told."""

    async def main() -> None:
        book = ConnectionBook(Bounds(), print)
        ((name, value),) = book.default_headers
        assert (name, value[-3:]) == (b"date", b"GMT")
        assert book.default_headers is book.default_headers
        book.left()
        assert book.empty.is_set()

    asyncio.run(main())
