"""Ports of this machine that are known before who listens there is started.

Law of this file: a port that is given out stays bound, without listening, for as long as it is held: nobody is
given it who asks for any free one, whoever is told it may listen there (what sets SO_REUSEADDR, as servers do), and
who connects before that is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

__all__ = ["held_port", "held_ports"]


@contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """So many ports on 127.0.0.1, held for the block."""
    with ExitStack() as stack:
        held = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in held:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in held]


@contextmanager
def held_port() -> Iterator[int]:
    """One of them."""
    with held_ports(1) as (port,):
        yield port
