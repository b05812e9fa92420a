"""What is refused over HTTP before a stream is taken is counted, row by row, and the next request is served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.doors import Door, door, hmac, token

GOOD = {"authorization": f"Bearer {token()}"}
HELLO = b'{"session": "s", "message": "hi"}'
ROWS: dict[str, tuple[str, str, dict[str, str], bytes | None, int, str]] = {
    "no token": ("POST", "/v1/stream", {}, HELLO, 401, "UNAUTHENTICATED"),
    "a bad token": ("POST", "/agui", {"authorization": "Bearer x.y.z"}, b"{}", 401, "TOKEN_INVALID"),
    "a bad ticket": ("GET", "/v1/stream?ticket=x", {"accept": "text/event-stream"}, None, 401, "TOKEN_INVALID"),
    "not an admin": ("GET", "/metrics", GOOD, None, 403, "PERMISSION_DENIED"),
    "no such route": ("GET", "/favicon.ico", GOOD, None, 404, "MALFORMED"),
    "no such link": ("POST", "/v1/stream/none/grant", GOOD, b"{}", 404, "NOT_FOUND"),
    "no such method": ("DELETE", "/v1/stream", GOOD, None, 405, "MALFORMED"),
    "not acceptable": ("GET", "/v1/stream", GOOD, None, 406, "MALFORMED"),
    "too large": ("POST", "/v1/stream", GOOD, b" " * 1_048_577, 413, "MALFORMED"),
    "not JSON by its type": ("POST", "/v1/stream", {**GOOD, "content-type": "text/plain"}, HELLO, 415, "MALFORMED"),
    "compressed": ("POST", "/v1/stream", {**GOOD, "content-encoding": "gzip"}, HELLO, 415, "MALFORMED"),
    "bad JSON": ("POST", "/v1/stream", GOOD, b"{", 400, "MALFORMED"),
    "a token in the URL": ("GET", "/v1/tools?token=x", GOOD, None, 400, "MALFORMED"),
    "a foreign origin": ("POST", "/v1/stream", {**GOOD, "origin": "https://evil.example"}, HELLO, 403, ""),
    "a rebound name": ("GET", "/v1/tools", {**GOOD, "host": "evil.example"}, None, 421, "PERMISSION_DENIED"),
    "a long URL": ("GET", "/" + "x" * 5000, GOOD, None, 414, "MALFORMED"),
    "long headers": ("GET", "/v1/tools", {**GOOD, "x": "x" * 20_000}, None, 431, "MALFORMED"),
}


def _since(door: Door, before: dict[str, int]) -> dict[str, int]:
    changed = {label: count - before.get(label, 0) for label, count in door.refusals().items()}
    return {label: count for label, count in changed.items() if count}


def test_each_refused_request_is_counted() -> None:
    """Once, by the code and status that its client saw; no session is made, and good requests count nothing."""

    async def main() -> None:
        async with door(hmac()) as here:
            for name, (method, path, headers, body, status, code) in ROWS.items():
                before = here.refusals()
                answer = await here.ask(method, path, headers, body)
                code = code or "PERMISSION_DENIED"
                assert (answer.status, answer.json["code"]) == (status, code), name
                assert _since(here, before) == {code: 1, str(status): 1}, name
                assert here.sessions == 0, name
                before = here.refusals()
                assert (await here.ask("GET", "/v1/tools", GOOD)).status == 200
                assert here.refusals() == before

    asyncio.run(main())


def test_a_limit_that_was_reached_is_counted() -> None:
    """429 for one stream too many and one ticket too many."""

    async def main() -> None:
        async with door(hmac(), max_streams_per_principal=1) as here:
            async with here.events(token(), {"session": "s", "client": "c"}) as reader:
                await reader.next()
                assert (await here.post("/v1/stream", token(), {"session": "s", "message": "hi"})).status == 429
                assert here.refusals() == {"RATE_LIMITED": 1, "429": 1}
            for _ in range(64):
                assert (await here.post("/v1/handshake", token(), {})).status == 200
            refused = await here.post("/v1/handshake", token(), {})
            assert (refused.status, refused.headers["retry-after"]) == (429, "30")
            assert here.refusals() == {"RATE_LIMITED": 2, "429": 2}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"additional_headers": {}}, 401, "UNAUTHENTICATED"),
        ({"origin": "https://evil.example"}, 403, "PERMISSION_DENIED"),
        ({"subprotocols": ["soap"]}, 400, "MALFORMED"),
        ({"path": "/nowhere"}, 404, "MALFORMED"),
    ],
)
def test_each_refused_upgrade_is_counted(change: dict[str, Any], status: int, code: str) -> None:
    """By status, or by the close code that a page can see."""

    async def main() -> None:
        async with door(hmac()) as here:
            options = {"subprotocols": ["laneway.v1"], "additional_headers": GOOD, **change}
            uri = f"ws://localhost:{here.port}{options.pop('path', '/v1/stream')}"
            with pytest.raises((InvalidStatus, ConnectionClosed)) as refused:
                async with connect(uri, **options) as socket:
                    await socket.recv()
            if isinstance(refused.value, InvalidStatus):
                assert refused.value.response.status_code == status
            else:
                assert refused.value.rcvd is not None
                assert refused.value.rcvd.code == 4000 + status
            assert here.refusals() == {code: 1, str(status): 1}
            assert here.sessions == 0

    asyncio.run(main())
