"""The event loop of a program of ours: uvloop where there is one.

Law of this file: whoever runs uvloop and gRPC in one process asks here, before gRPC is imported. uvloop starts
programs through fork handlers, which gRPC has too; while another of its threads is at work, those end the child
before it is a program (measured: 13 of 150 tool workers). Nothing of ours forks without exec, so they are off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

__all__ = ["loop_factory"]


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop. Sets GRPC_ENABLE_FORK_SUPPORT to 0, unless the environment says otherwise."""
    try:
        import uvloop
    except ImportError:  # Windows, or without the extra
        return asyncio.new_event_loop
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    return uvloop.new_event_loop
