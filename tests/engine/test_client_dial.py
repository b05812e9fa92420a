"""Credentials: fixed, fresh, or not to be had."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.client_dial import CHANNEL_OPTIONS, Dial
from laneway.routing.errors import RuntimeUnavailable


def test_tokens_of_every_form() -> None:
    """None, a string, a function and a coroutine function; a failing one is a retryable error."""

    async def later() -> str:
        return "c"

    def broken() -> str:
        raise OSError("vault is away")

    async def main() -> None:
        assert await Dial("h:1").metadata() == ()
        for token, text in (("a", "a"), (lambda: "b", "b"), (later, "c")):
            assert await Dial("h:1", token).metadata() == (("authorization", f"Bearer {text}"),)
            assert Dial("h:1", token).renews == callable(token)
        with pytest.raises(RuntimeUnavailable, match="vault") as caught:
            await Dial("h:1", broken).metadata()
        assert caught.value.retryable

    asyncio.run(main())


def test_the_transport_does_not_run_ahead() -> None:
    """The two options that bound what is in flight towards a reader that stopped are set."""
    options = dict(CHANNEL_OPTIONS)
    assert (options["grpc.http2.bdp_probe"], options["grpc.http2.lookahead_bytes"]) == (0, 24_576)
