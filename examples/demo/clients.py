"""One client process of the demo: plays a role over gRPC and prints its result as one JSON line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from examples.demo.drawing_board import edit_with_frames, edit_with_replica
from examples.demo.work import CAPACITY_PER_S, WORK_KINDS
from laneway import Client, Lane, LanewayError
from laneway.routing.classify import KindTable

_FLOOD_S = 3.0
_PROBES = 40
_PROBE_GAP_S = 0.08
_QUESTIONS = {
    "chat-1": "Tell me a short story about a lighthouse.",
    "chat-2": "What can one cook with potatoes?",
    "steady": "Describe the four seasons of the year, one after the other.",
    "interrupt": "Write a very long story about the sea.",
    "retry": "Write a very long story about the mountains.",
}
_ANSWERED_S = 60.0
_LANES = {Lane.CRITICAL: "ALERT", Lane.HIGH: "ORDER", Lane.NORMAL: "JOB", Lane.LOW: "HINT"}

Result = dict[str, Any]


def _client(target: str, session: str, **options: Any) -> Client:
    return Client(target, session=session, kinds=KindTable(WORK_KINDS), **options)


async def chat(target: str, role: str, model: str) -> Result:
    """Ask one question and read the whole answer."""
    async with _client(target, role) as client:
        asked = time.monotonic()
        receipt = await client.send(_QUESTIONS[role])
        first_ms, text = 0.0, ""
        async for event in client:
            if event.kind == "TEXT_MESSAGE_CONTENT":
                first_ms = first_ms or (time.monotonic() - asked) * 1000
                text += event.text
            elif event.ends_run and event.run == receipt.run:
                return {"first_token_ms": first_ms, "chars": len(text), "finished": event.kind == "RUN_FINISHED"}
    return {"error": "the stream ended before the run did"}


async def tools(target: str, role: str, model: str) -> Result:
    """Call an MCP tool and a Python tool directly, and let the model call one."""
    async with _client(target, role) as client:
        reader = asyncio.create_task(_drain(client))
        said = []
        now = await client.call_tool("get_current_time", {"timezone": "UTC"})
        said.append(("get_current_time", '"timezone"' in str(now["content"])))
        count = await client.call_tool("word_count", {"text": "one two three"})
        said.append(("word_count", str(count["content"]).strip() == "3"))
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    async with _client(target, f"{role}-by-model") as client:
        said.append(("word_count by the model", await _by_model(client, model)))
    good = sum(ok for _, ok in said)
    return {"asked": len(said), "ok": good, "what": ", ".join(name for name, _ in said)}


async def _by_model(client: Client, model: str) -> bool:
    """True if the model called the tool and its result came back into the run."""
    if model == "synthetic":
        receipt = await client.send('call word_count {"text": "a b c d"}')
    else:
        question = {"id": "u1", "role": "user", "content": "Count the words of: the cat sat on the mat"}
        run = {
            "threadId": client.session,
            "runId": "by-model",
            "messages": [question],
            "tools": [],
            "context": [],
            "state": {},
            "forwardedProps": {"toolChoice": {"name": "word_count"}},
        }
        receipt = await client.send_event("RUN_INPUT", json.dumps(run).encode(), run="by-model")
    result = False
    async for event in client:
        if event.kind == "TOOL_CALL_RESULT":
            result = str(event.data["content"]).strip().isdigit()
        if event.ends_run and event.run == receipt.run:
            return result and event.kind == "RUN_FINISHED"
    return False


async def _drain(client: Client) -> None:
    async for _ in client:
        continue


@dataclass(slots=True)
class _Tally:
    """What became of each event of the flood, by its number."""

    ok: set[bytes] = field(default_factory=set)
    refused: int = 0
    typed: bool = True
    answered: set[bytes] = field(default_factory=set)


async def flood(target: str, role: str, model: str) -> Result:
    """Offer three times what the pool can do, from one session, and wait for the answer to all that was taken."""
    tally, offered = _Tally(), int(3 * CAPACITY_PER_S * _FLOOD_S)
    async with _client(target, role, retries=0) as client:

        async def read() -> None:
            async for event in client:
                if event.kind == "CUSTOM":
                    tally.answered.add(event.body)

        async def offer(number: bytes) -> None:
            try:
                await client.send_event("JOB", number)
                tally.ok.add(number)
            except LanewayError as error:
                tally.refused += 1
                tally.typed = tally.typed and error.retryable and error.retry_after_ms is not None

        reader = asyncio.create_task(read())
        started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(offered):
                late = started + number / (3 * CAPACITY_PER_S) - time.monotonic()
                if late > 0:
                    await asyncio.sleep(late)
                group.create_task(offer(str(number).encode()))
        took_s = time.monotonic() - started
        await _until_answered(tally)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return {
        "offered": offered,
        "took_s": took_s,
        "ok": len(tally.ok),
        "refused": tally.refused,
        "typed": tally.typed,
        "answered": len(tally.ok & tally.answered),
    }


async def _until_answered(tally: _Tally) -> None:
    """Wait for what is still to come; what has not come by then is missing in the result."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ANSWERED_S):
            while not tally.ok <= tally.answered:  # noqa: ASYNC110 - thousands of events, one wait
                await asyncio.sleep(0.02)


async def lanes(target: str, role: str, model: str) -> Result:
    """Send a trickle in every lane while the flood goes on; time each event's way there and back."""
    waits: dict[str, list[float]] = {kind: [] for kind in _LANES.values()}
    lost = dict.fromkeys(waits, 0)
    sent: dict[str, tuple[str, float]] = {}
    async with _client(target, role) as client:
        done = asyncio.Event()

        async def read() -> None:
            async for event in client:
                kind, at = sent.pop(event.entity, ("", 0.0))
                if kind:
                    waits[kind].append(time.monotonic() - at)
                if not sent:
                    done.set()

        reader = asyncio.create_task(read())
        for number in range(_PROBES):
            for kind in waits:
                name = f"{kind}-{number}"
                sent[name] = (kind, time.monotonic())
                await client.send_event(kind, b"probe", entity=name)
            await asyncio.sleep(_PROBE_GAP_S)
        done.clear()
        try:
            async with asyncio.timeout(20):
                while sent:
                    await done.wait()
                    done.clear()
        except TimeoutError:
            for kind, _ in sent.values():
                lost[kind] += 1
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return {lane.name.lower(): _percentiles(waits[kind], lost[kind]) for lane, kind in _LANES.items()}


def _percentiles(waits_s: list[float], lost: int) -> Result:
    ordered = sorted(waits_s) or [float("nan")]
    return {
        "count": len(waits_s),
        "lost": lost,
        "p50_ms": ordered[int(len(ordered) * 0.5)] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
    }


async def interrupt(target: str, role: str, model: str) -> Result:
    """Ask for something long, and stop it after a few words."""
    async with _client(target, role) as client:
        receipt = await client.send(_QUESTIONS[role])
        seen, asked = 0, 0.0
        stop: asyncio.Task[Any] | None = None
        async for event in client:
            if event.kind == "TEXT_MESSAGE_CONTENT":
                seen += 1
                if seen == 3:
                    asked = time.monotonic()
                    stop = asyncio.create_task(client.interrupt(receipt.run))
            elif event.ends_run and event.run == receipt.run:
                ended_ms = (time.monotonic() - asked) * 1000 if asked else float("nan")
                if stop is not None:
                    await stop
                outcome = event.data.get("outcome") or {}
                return {"cancelled": outcome.get("type") == "cancelled", "ended_ms": ended_ms, "seen": seen}
    return {"error": "the stream ended before the run did"}


async def retry(target: str, role: str, model: str) -> Result:
    """Ask for something long; its host is killed meanwhile, and the same question is asked again as a new run."""
    async with _client(target, role) as client:
        lost = await client.send(_QUESTIONS[role])
        words, error = 0, {}
        async for event in client:
            words += event.kind == "TEXT_MESSAGE_CONTENT"
            if event.ends_run and event.run == lost.run:
                error = event.data
                break
        again = {
            "threadId": client.session,
            "runId": "again",
            "parentRunId": lost.run,
            "messages": [{"id": "u2", "role": "user", "content": _QUESTIONS[role]}],
            "tools": [],
            "context": [],
            "state": {},
            "forwardedProps": {},
        }
        await client.send_event("RUN_INPUT", json.dumps(again).encode(), run="again")
        text, parent = "", ""
        async for event in client:
            if event.run != "again":
                continue
            text += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
            parent = event.data.get("parentRunId", "") if event.kind == "RUN_STARTED" else parent
            if event.ends_run:
                break
    return {
        "words": words,
        "code": error.get("code", "none"),
        "retryable": bool((error.get("metadata") or {}).get("retryable")),
        "parent": parent == lost.run,
        "finished": event.kind == "RUN_FINISHED",
        "chars": len(text),
    }


async def steady(target: str, role: str, model: str) -> Result:
    """Ask a question in the shared session and read the answer undisturbed."""
    async with _client(target, "shared", client_id=role, topics=["topic:here"]) as client:
        await _both_here(client, role)
        await client.send(_QUESTIONS["steady"], run="shared-run")
        return await _read_shared(client)


async def cut(target: str, role: str, model: str) -> Result:
    """Read the same answer over a connection that is reset from outside in mid-delta."""
    async with _client(target, "shared", client_id=role, topics=["topic:here"]) as client:
        await _both_here(client, role)
        return await _read_shared(client)


async def _both_here(client: Client, role: str) -> None:
    """Wait until both readers of the shared session are connected."""
    seen: set[str] = set()
    while len(seen) < 2:
        await client.publish("topic:here", role.encode())
        try:
            async with asyncio.timeout(0.3):
                async for event in client:
                    if event.kind == "PUBLISH":
                        seen.add(event.body.decode())
                    if len(seen) == 2:
                        break
        except TimeoutError:
            continue
    await client.publish("topic:here", role.encode())


async def _read_shared(client: Client) -> Result:
    text = ""
    async for event in client:
        if event.kind == "TEXT_MESSAGE_CONTENT":
            text += event.text
        if event.ends_run and event.run == "shared-run":
            break
    return {"chars": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest(), "reconnects": client.reconnects}


_ROLES: dict[str, Callable[[str, str, str], Coroutine[Any, Any, Result]]] = {
    "chat-1": chat,
    "chat-2": chat,
    "tools": tools,
    "editor-1": edit_with_replica,
    "editor-2": edit_with_frames,
    "flood": flood,
    "lanes": lanes,
    "interrupt": interrupt,
    "retry": retry,
    "steady": steady,
    "cut": cut,
}


def main() -> None:
    """Play one role."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=sorted(_ROLES))
    parser.add_argument("--target", required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(_ROLES[arguments.role](arguments.target, arguments.role, arguments.model))))


if __name__ == "__main__":
    main()
