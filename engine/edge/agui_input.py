"""What an AG-UI client posts, read strictly, and its ids in our alphabet.

Law of this file: pure translation. A RunAgentInput that is wrong is a PeerProtocolError that names
the field; fields of a newer protocol are left out, and `null` for an absent optional is forgiven,
because real clients send both. Ids come back to the client exactly as it wrote them.

Stock clients use any text as an id. One of our alphabet is used as it is; any other is written as
``x:`` and its base64url, which is reversible, so that two ids never meet in one session. What does
not fit into 64 characters then (over 46 bytes of UTF-8) is refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine.codec import decode_json, valid_id
from laneway.engine.events import RunAgentInput, run_input
from laneway.engine.limits import DEFAULT_LIMITS, Limits
from laneway.routing.errors import PeerProtocolError

__all__ = ["RunRequest", "engine_id", "read_run"]

_ESCAPE: Final = "x:"
_ID_CHARS: Final = 64
_ESCAPED_BYTES: Final = (_ID_CHARS - len(_ESCAPE)) * 3 // 4
_MAJOR: Final = re.compile(r"(\d{1,4})(\.|$)")
_FIELDS: Final = frozenset(
    spelling for name, field in RunAgentInput.model_fields.items() for spelling in (name, field.alias or name)
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One run that a client asks for.

    Attributes:
        thread, run: the client's own ids, as it wrote them.
        session, run_id: the same in our alphabet.
        outcomes: the client speaks AG-UI 1.0 or newer, which knows how a run may end.
        body: the RunAgentInput as JSON, for a RUN_INPUT event.
    """

    thread: str
    run: str
    session: str
    run_id: str
    outcomes: bool
    body: bytes


def read_run(data: bytes, *, agent: str = "", limits: Limits = DEFAULT_LIMITS) -> RunRequest:
    """Return the run that a POST asks for. O(bytes).

    Args:
        data: the request's body.
        agent: name from the path; the model finds it in ``forwardedProps["agent"]``.

    Raises PeerProtocolError: no JSON, a wrong or missing field, an id that cannot be used, too large.
    """
    document = decode_json(data, limits)
    if not isinstance(document, dict):
        raise PeerProtocolError("the body must be an AG-UI RunAgentInput: one JSON object", reason="BAD_TYPE")
    known = {name: value for name, value in document.items() if name in _FIELDS}
    if agent:
        known["forwardedProps"] = _addressed(known.pop("forwarded_props", known.get("forwardedProps")), agent)
    asked = run_input(known, limits)
    return RunRequest(
        thread=asked.thread_id,
        run=asked.run_id,
        session=engine_id(asked.thread_id, "threadId"),
        run_id=engine_id(asked.run_id, "runId"),
        outcomes=_knows_outcomes(asked.protocol_version),
        body=asked.model_dump_json(by_alias=True).encode(),
    )


def engine_id(text: str, field: str = "id") -> str:
    """Return a client's id in our alphabet; see the law of this file. Raises PeerProtocolError(BAD_ID)."""
    if valid_id(text) and not text.startswith(_ESCAPE):
        return text
    data = text.encode("utf-8")
    if not 0 < len(data) <= _ESCAPED_BYTES:
        raise PeerProtocolError(
            f"{field} must be 1 to {_ID_CHARS} of A-Z a-z 0-9 _ . : - or any other text of up to {_ESCAPED_BYTES} "
            f"bytes; this one has {len(data)} bytes",
            reason="BAD_ID",
        )
    return _ESCAPE + base64.urlsafe_b64encode(data).decode().rstrip("=")


def _addressed(forwarded: Any, agent: str) -> dict[str, Any]:
    """Name the agent among the forwarded properties; the path wins."""
    if forwarded is not None and not isinstance(forwarded, Mapping):
        raise PeerProtocolError(
            "forwardedProps must be an object when the path names an agent, which is told there", reason="BAD_TYPE"
        )
    return {**(forwarded or {}), "agent": agent}


def _knows_outcomes(version: str | None) -> bool:
    """Only clients of 1.0 and newer say which version they speak."""
    found = _MAJOR.match(version or "")
    return found is not None and int(found[1]) >= 1
