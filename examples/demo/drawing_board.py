"""Two people edit one document: one with the library's replica, one speaking raw Yjs frames.

The second one shows what a client in any language does: y-protocols messages are a type, a step and
a length-prefixed payload; only the payloads (Yjs updates and state vectors) come from a Yjs library.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from pycrdt import Doc, Map

from laneway import Client
from laneway.engine.documents.replica import Replica

_DOCUMENT = "board"
_EDITS = 10
_GAP_S = 0.05
_DEADLINE_S = 60.0
_SYNC, _STEP1, _STEP2, _UPDATE = 0, 0, 1, 2


async def edit_with_replica(target: str, role: str, model: str) -> dict[str, Any]:
    """Edit through `Replica`."""
    async with Client(target, session=role) as client:
        replica = Replica(_DOCUMENT)

        def edit(number: int) -> list[bytes]:
            replica.patch([{"op": "add", "path": f"/one-{number}", "value": number}])
            return replica.changes()

        return await _edit(client, replica.hello(), replica.receive, edit, replica.json)


async def edit_with_frames(target: str, role: str, model: str) -> dict[str, Any]:
    """Edit with frames made by hand around plain Yjs updates."""
    document = Doc[Any]()
    state = document.get("state", type=Map)

    def receive(body: bytes) -> list[bytes]:
        step, payload = _unframe(body)
        if step == _STEP1:
            return [_frame(_STEP2, document.get_update(payload))]
        document.apply_update(payload)
        return []

    def edit(number: int) -> list[bytes]:
        before = document.get_state()
        state[f"two-{number}"] = number
        return [_frame(_UPDATE, document.get_update(before))]

    async with Client(target, session=role) as client:
        hello = _frame(_STEP1, document.get_state())
        return await _edit(client, hello, receive, edit, lambda: _plain(state.to_py() or {}))


async def _edit(
    client: Client,
    hello: bytes,
    receive: Callable[[bytes], list[bytes]],
    edit: Callable[[int], list[bytes]],
    show: Callable[[], Any],
) -> dict[str, Any]:
    """Join the document, make ten edits while the other does, wait until all twenty are here."""
    complete = asyncio.Event()

    async def read() -> None:
        async for event in client:
            if event.kind == "DOC_SYNC" and event.entity == _DOCUMENT:
                for reply in receive(event.body):
                    await client.send_event("DOC_SYNC", reply, entity=_DOCUMENT)
                if len(show()) == 2 * _EDITS:
                    complete.set()

    reader = asyncio.create_task(read())
    await client.send_event("DOC_SYNC", hello, entity=_DOCUMENT)
    for number in range(_EDITS):
        for frame in edit(number):
            await client.send_event("DOC_SYNC", frame, entity=_DOCUMENT)
        await asyncio.sleep(_GAP_S)
    if len(show()) < 2 * _EDITS:
        async with asyncio.timeout(_DEADLINE_S):
            await complete.wait()
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)
    return {"edits": _EDITS, "json": json.dumps(show(), sort_keys=True)}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Yjs numbers come back as floats."""
    return {key: int(value) if isinstance(value, float) else value for key, value in values.items()}


def _frame(step: int, payload: bytes) -> bytes:
    size, prefix = len(payload), bytearray()
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes([_SYNC, step]) + bytes(prefix) + payload


def _unframe(body: bytes) -> tuple[int, bytes]:
    kind, step, size, shift, at = body[0], body[1], 0, 0, 2
    if kind != _SYNC:
        raise ValueError(f"message type {kind} in DOC_SYNC")
    while True:
        byte = body[at]
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return step, body[at : at + size]
