"""An engine behind a real HTTP port, with tokens and tenants, and a client that sends what it likes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import jwt

from laneway.engine.app.engine import Engine
from laneway.engine.config import Config
from laneway.engine.edge.auth import Authenticate, JwtAuthenticator, JwtPolicy

__all__ = ["SECRET", "Answer", "Door", "claims", "door", "hmac", "token"]

SECRET = "0123456789abcdef0123456789abcdef"
WITHIN_S = 60.0


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def claims(subject: str = "ada", tenant: str = "a", **more: Any) -> dict[str, Any]:
    now = int(time.time())
    mine = {"sub": subject, "tenant": tenant, "iss": "me", "aud": "laneway", "iat": now - 5, "exp": now + 600}
    return {**mine, **more}


def token(subject: str = "ada", tenant: str = "a", **more: Any) -> str:
    return jwt.encode(claims(subject, tenant, **more), SECRET, "HS256")


def hmac(**options: Any) -> JwtAuthenticator:
    return JwtAuthenticator({"": SECRET}, JwtPolicy("laneway", "me", algorithms=("HS256",)), **options)


class Door(NamedTuple):
    """The engine and where it listens."""

    engine: Engine
    port: int

    @property
    def sessions(self) -> int:
        return self.engine.statistics()[1].sessions

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        fields = {"host": "localhost", "connection": "close", **(headers or {})}
        if body is not None:
            fields = {"content-type": "application/json", "content-length": str(len(body)), **fields}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return parsed(await self.raw("\r\n".join([*lines, "", ""]).encode() + (body or b"")))

    async def post(self, path: str, bearer: str, document: Any, **headers: str) -> Answer:
        """One JSON document as somebody."""
        fields = {"authorization": f"Bearer {bearer}", **headers}
        return await self.ask("POST", path, fields, json.dumps(document).encode())

    async def raw(self, data: bytes) -> bytes:
        """Send these bytes and return everything that comes until the server closes."""
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                return await reader.read()
            finally:
                writer.transport.abort()

    @asynccontextmanager
    async def events(self, bearer: str, document: Any) -> AsyncIterator[EventReader]:
        """An event stream of a POST."""
        body = json.dumps(document).encode()
        lines = [
            "POST /v1/stream HTTP/1.1",
            "host: localhost",
            "accept: text/event-stream",
            "content-type: application/json",
            f"content-length: {len(body)}",
            *([f"authorization: Bearer {bearer}"] if bearer else []),
        ]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            async with asyncio.timeout(WITHIN_S):
                head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head, head
            yield EventReader(reader)
        finally:
            writer.transport.abort()

    def refusals(self) -> dict[str, int]:
        """How many requests were refused, by code and by status."""
        rows = [line for line in self.engine.metrics().splitlines() if line.startswith("laneway_http_refused_")]
        found = {row.split('"')[1]: int(float(row.rpartition(" ")[2])) for row in rows}
        return {label: count for label, count in found.items() if count}


class EventReader:
    """Frames of an event stream."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    async def next(self) -> Any:
        """The next frame."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                line = (await self._reader.readuntil(b"\n")).strip()
                if line.startswith(b"data: "):
                    return json.loads(line[6:])


def parsed(data: bytes) -> Answer:
    """The one answer in `data`."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)


@asynccontextmanager
async def door(authenticate: Authenticate | None = None, **options: Any) -> AsyncIterator[Door]:
    """An engine with a synthetic model behind an HTTP port."""
    if authenticate is not None:
        options["authenticate"] = authenticate
    async with Engine(Config.model_validate({"nlp": {"model": "tests.engine.app.shop:make_model"}})) as engine:
        edge = await engine.serve_http(**options)
        yield Door(engine, edge.port)
