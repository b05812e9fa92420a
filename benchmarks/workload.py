"""The events that every row gets: the same mix, the same bytes, the same order.

W1 is the dispatch workload of common comparisons: events of 278 bytes as JSON, TEXT 60 %, TOOL 20 %,
STATE 15 %, ERROR 5 %, to three handlers, results back to the producer, at most 1,024 in flight. The
handler does nothing, so what is measured is the way to it and back.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from laneway.actors.ports import Context
from laneway.engine.config import Config, DispatchConfig
from laneway.routing.classify import IN, Kind
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.lanes import Lane

__all__ = [
    "BODY_BYTES",
    "IN_FLIGHT",
    "KINDS",
    "POOLS",
    "SESSIONS",
    "Job",
    "echo",
    "envelopes",
    "jobs",
    "number_of",
    "open_config",
]

BODY_BYTES: Final = 278
IN_FLIGHT: Final = 1024
SESSIONS: Final = 8
_NUMBER: Final = slice(9, 17)

_SHARES: Final = {"TEXT": 60, "TOOL": 20, "STATE": 15, "ERROR": 5}
_LANES: Final = {"TEXT": Lane.HIGH, "TOOL": Lane.NORMAL, "STATE": Lane.NORMAL, "ERROR": Lane.HIGH}

KINDS: Final = tuple(Kind(f"W_{name}", lane, direction=IN) for name, lane in _LANES.items())
POOLS: Final = {"nlp_w": ("W_TEXT",), "tool_w": ("W_TOOL",), "sync_w": ("W_STATE", "W_ERROR")}


class Job(NamedTuple):
    """One event, before it is anybody's."""

    kind: str
    lane: int
    body: bytes


def jobs(count: int) -> list[Job]:
    """Return the first `count` events of the workload; always the same."""
    random_ = random.Random(1)
    names = random_.choices(list(_SHARES), weights=list(_SHARES.values()), k=count)
    return [Job(f"W_{name}", _LANES[name], _body(name, number)) for number, name in enumerate(names)]


def _body(name: str, number: int) -> bytes:
    event = {"id": f"e{number:08d}", "type": name, "session_id": f"s{number % SESSIONS}", "payload": ""}
    event["payload"] = "x" * (BODY_BYTES - len(json.dumps(event)))
    body = json.dumps(event).encode()
    assert len(body) == BODY_BYTES
    assert number_of(body) == number
    return body


def number_of(body: bytes) -> int:
    """Return which event of the workload this is."""
    return int(body[_NUMBER])


def envelopes(work: Sequence[Job], before: int = 0) -> list[Envelope]:
    """Return the same events as envelopes of `SESSIONS` sessions, accepted now; `before` were made already."""
    now = time.monotonic()
    return [
        envelope(
            job.kind,
            producer="bench",
            counter=number,
            tenant="t",
            session=f"s{number % SESSIONS}",
            lane=job.lane,
            body=job.body,
            accepted=now,
        )
        for number, job in enumerate(work, before + 1)
    ]


async def echo(env: Envelope, context: Context) -> bytes:
    """The handler of every row: gives back what it got."""
    return env[11]


def open_config() -> Config:
    """Return settings whose limits W1 does not reach: it measures cost, W4 measures refusal."""
    return Config(
        dispatch=DispatchConfig(
            rate_per_s=1e9,
            burst=1e9,
            session_events=2**20,
            session_bytes=2**28,
            tenant_events=2**20,
            tenant_bytes=2**30,
            target_wait_s=0.0,
        )
    )
