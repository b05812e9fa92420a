"""What tests may rely on with a port that is held."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.ports import held_port, held_ports


def test_a_held_port_refuses_until_somebody_listens_there_and_again_after() -> None:
    """As often as a server begins and ends."""

    async def main() -> None:
        with held_port() as port:
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", port)
                async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    assert await reader.read() == b""
                    writer.close()

    asyncio.run(main())


def test_nobody_else_is_given_it() -> None:
    """Neither who asks for it without sharing, nor who asks for any; several differ."""
    with held_ports(3) as ports, socket.socket() as other:
        assert len(set(ports)) == 3
        with pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", ports[0]))
        with held_ports(500) as more:
            assert not set(ports) & set(more)
