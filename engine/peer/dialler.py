"""The dialling half: one attempt at a connection to one life of a host.

Law of this file: a channel serves one attempt (grpc.aio leaks when streams are opened again on a broken
one, https://github.com/grpc/grpc/issues/38499), and so each looks the address up anew. An attempt has a
deadline and either gives both streams, answered by the right host, or a typed error that names it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from laneway.engine.peer.handshake import (
    DATA_METHOD,
    REASON_KEY,
    SERVICE,
    URGENT_METHOD,
    Gate,
    Hello,
    refusal,
    text_metadata,
)
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.peer.wires import DialledWire, Wire
from laneway.engine.tls import Tls
from laneway.routing.errors import RuntimeUnavailable
from laneway.routing.membership import Member

__all__ = ["Dialler"]


class Dialler:
    """Opens connections.

    Args:
        gate: says who we are and checks who answers.
        tls: whose certificates count, and our own; None for plain text.
        tls_name: the name that stands in every host's certificate; empty: the address that is dialled.

    Raises:
        ConfigError: unusable TLS files.
    """

    def __init__(self, gate: Gate, policy: PeerPolicy, tls: Tls | None = None, tls_name: str = "") -> None:
        self._gate = gate
        self._policy = policy
        self._credentials = tls.channel_credentials() if tls is not None else None
        self._options: list[tuple[str, Any]] = [*policy.channel_options()]
        if tls_name:
            self._options.append(("grpc.ssl_target_name_override", tls_name))

    @asynccontextmanager
    async def dial(self, member: Member) -> AsyncIterator[tuple[Hello, Wire, Wire]]:
        """Connect; give hello, urgent and data stream. Leaving closes the channel.

        Raises LanewayError: no answer within `connect_s`, another host there, another version or secret.
        """
        channel = self._channel(member.address)
        try:
            hello = Hello(member.name, member.incarnation, uuid.uuid4().hex)
            metadata = self._gate.hello(*hello)
            calls = [channel.stream_stream(f"/{SERVICE}/{method}")(metadata=metadata) for method in _METHODS]
            who = f"{member.name} at {member.address}"
            try:
                async with asyncio.timeout(self._policy.connect_s):
                    for call in calls:
                        self._gate.meet(await _answer(call, who), member.name, member.incarnation)
            except TimeoutError as error:
                raise RuntimeUnavailable(
                    f"{who} did not answer within {self._policy.connect_s:g} s", reason="CONNECT_TIMEOUT"
                ) from error
            urgent, data = map(DialledWire, calls)
            yield hello, urgent, data
        finally:
            await channel.close()

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(address, options=self._options)
        return grpc.aio.secure_channel(address, self._credentials, options=self._options)


_METHODS = (URGENT_METHOD, DATA_METHOD)


async def _answer(call: Any, who: str) -> dict[str, str]:
    """Return what the other side says of itself. Raises LanewayError if it refuses or is not there."""
    said = text_metadata(await call.initial_metadata())
    if "laneway-name" not in said or call.done():
        code, details = await call.code(), await call.details()
        reason = text_metadata(await call.trailing_metadata()).get(REASON_KEY, "")
        raise refusal(code.name, reason, details, who)
    return said
