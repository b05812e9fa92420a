"""What a run is asked, as a RunAgentInput: from a user's message, from a client's own, or where a run stopped.

Law of this file: a run is asked what its client sent, or what the session remembers, and never a part
of that which looks whole. A run that goes on where another stopped (`parentRunId`, no messages) is
given all that was said, the unfinished answer last; a model speaks from there on, in a message of its
own, because text is never appended to a half-told one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from laneway.actors.nlp.vocabulary import PROTOCOL_VERSION
from laneway.actors.sessions.transcript import CUT
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, SESSION, TENANT, Envelope, envelope_id
from laneway.routing.errors import PeerProtocolError
from laneway.routing.unread import POLICIES, Unread

__all__ = ["Earlier", "asked", "said", "unread_policy"]

Earlier: TypeAlias = Callable[[str, str], Sequence[Mapping[str, Any]]]
"""(tenant, session) -> the AG-UI messages said before."""


def asked(env: Envelope, run: str, earlier: Earlier) -> dict[str, Any]:
    """Return the input of the run that this event starts.

    Args:
        run: its id where the event names none, or empty.
        earlier: what was said before.

    Raises PeerProtocolError for an event that says nothing a model could be asked.
    """
    run = env[RUN] or run or f"run-{envelope_id(env)}"
    if env[KIND] == "RUN_INPUT":
        given = {**_parsed(env[BODY]), "threadId": env[SESSION], "runId": run}
        if given.get("parentRunId") and not given["messages"]:
            given["messages"] = _so_far(earlier(env[TENANT], env[SESSION]))
        return given
    asking = said(env)
    before = [dict(m) for m in earlier(env[TENANT], env[SESSION]) if m.get("id") != asking["id"]]
    return {
        "threadId": env[SESSION],
        "runId": run,
        "protocolVersion": PROTOCOL_VERSION,
        "state": {},
        "messages": [*before, asking],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }


def said(env: Envelope) -> dict[str, Any]:
    """Return a USER_MESSAGE as an AG-UI message. Raises PeerProtocolError for what is not UTF-8."""
    try:
        content = env[BODY].decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerProtocolError("the message is not UTF-8 text", reason="BAD_UTF8") from error
    return {"id": env[ENTITY] or envelope_id(env), "role": "user", "content": content}


def unread_policy(run: Mapping[str, Any]) -> Unread | None:
    """Return what a run asks for in `forwardedProps.unread`, or None. Raises PeerProtocolError for anything else."""
    props = run.get("forwardedProps")
    policy = props.get("unread") if isinstance(props, Mapping) else None
    if policy is None:
        return None
    if not isinstance(policy, str) or policy not in POLICIES:
        raise PeerProtocolError(
            f"forwardedProps.unread is one of {', '.join(sorted(POLICIES))}, not {str(policy)[:40]!r}",
            reason="BAD_TYPE",
        )
    return cast("Unread", policy)


def _so_far(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    newest = messages[-1] if messages else {}
    if str(newest.get("content") or "").endswith(CUT):
        raise PeerProtocolError(
            "what the run had said is longer than the session remembers; send the messages with parentRunId",
            reason="TOO_LONG",
        )
    if not messages:
        raise PeerProtocolError("the session remembers nothing that a run could go on with", reason="NO_MESSAGES")
    return [dict(message) for message in messages]


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        run = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PeerProtocolError("the run input is not JSON; send an AG-UI RunAgentInput", reason="BAD_TYPE") from error
    if not isinstance(run, dict) or not isinstance(run.get("messages", []), list):
        raise PeerProtocolError("the run input is not an AG-UI RunAgentInput object", reason="BAD_TYPE")
    run.setdefault("messages", [])
    return run
