"""Which part of this host a message is for: a table from verb to its handler.

Law of this file: parts do not know each other. A message that nobody handles, or whose handler
fails, breaks its connection and nothing else: two hosts that do not understand each other must not
go on as if they did.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from laneway.actors.hosts.peers import VERBS, Message, Peer
from laneway.routing.errors import LanewayError, LocalProtocolError, PeerProtocolError

__all__ = ["Part", "Switchboard"]

_log: Final = logging.getLogger(__name__)


class Part(Protocol):
    """Something of this host that talks with other hosts."""

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """Return verb -> what takes its messages; asked once. Each verb belongs to one part."""
        ...

    def connected(self, peer: Peer) -> None:
        """A connection is up."""
        ...

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """A connection is over, and all that was under way over it."""
        ...


class Switchboard:
    """Implements `peers.Receiver` for the parts of one host.

    Attributes:
        peers: name -> the live connection; a newer one of the same name takes its place.
    """

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {}
        self._parts: list[Part] = []
        self._handlers: dict[int, Callable[[Peer, Message], None]] = {}

    def add(self, part: Part) -> None:
        """Add a part, before the first connection. Raises LocalProtocolError if a verb is taken or unknown."""
        own = part.handlers()
        if taken := sorted(set(own) & set(self._handlers) | set(own) - VERBS):
            raise LocalProtocolError(f"verbs {taken} are handled by another part already, or do not exist")
        self._handlers.update(own)
        self._parts.append(part)

    def connected(self, peer: Peer) -> None:
        """Tell every part; an older connection to the same host is closed first."""
        older = self.peers.get(peer.name)
        if older is not None:
            older.close(PeerProtocolError(f"host {peer.name} has connected anew"))
        self.peers[peer.name] = peer
        for part in self._parts:
            part.connected(peer)

    def received(self, peer: Peer, message: Message) -> None:
        """Pass a message on."""
        handler = self._handlers.get(message[0])
        try:
            if handler is None:
                raise PeerProtocolError(f"host {peer.name} sent verb {message[0]!r}, which nothing here handles")
            handler(peer, message)
        except LanewayError as error:
            peer.close(error)
        except Exception as error:
            _log.exception("a message of host %s (verb %s) could not be taken", peer.name, message[0])
            peer.close(PeerProtocolError(f"verb {message[0]!r} of host {peer.name} failed: {type(error).__name__}"))

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """Tell every part."""
        if self.peers.get(peer.name) is peer:
            del self.peers[peer.name]
        for part in self._parts:
            part.lost(peer, error)
