"""Between handlers and session homes: what could not be read back is not numbered.

Law of this file: an event that the codec would refuse on the way in is refused on the way out, at
the handler that made it. Once in a log it would break every client that resumes over it, and the
session's own recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from operator import itemgetter
from typing import Any, Final

from laneway.actors.ports import Outlet
from laneway.engine.codec import valid_id
from laneway.engine.limits import DEFAULT_LIMITS
from laneway.routing.envelope import BODY, ENTITY, KIND, Envelope
from laneway.routing.errors import LocalProtocolError

__all__ = ["CheckedOutlet"]

_ENTITY_CHARS: Final = 128
_BODY_BYTES: Final = DEFAULT_LIMITS.body_bytes
_BODY_OF: Final = itemgetter(BODY)
_ENTITY_OF: Final = itemgetter(ENTITY)
_BYTES: Final = frozenset({bytes})


class CheckedOutlet:
    """An Outlet in front of another. O(1), about 0.1 us for the deltas of one message."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._checked = ""
        gathering = getattr(outlet, "gathering", None)  # isinstance(..., Gathers) takes 5 us, and each delivery has one
        if gathering is not None:
            self.gathering = gathering  # what waits was checked, and together it is small
        steer = getattr(outlet, "when_unread", None)
        if steer is not None:
            self.when_unread = steer
        now = getattr(outlet, "emit_now", None)
        if now is not None:
            self._now: Callable[[Envelope], bool] = now
            self.emit_now = self._emit_now
        ready = getattr(outlet, "emit_ready", None)
        if ready is not None:
            self._ready = ready
            self.emit_ready = self._emit_ready

    def emit(self, env: Envelope) -> Coroutine[Any, Any, None]:
        """Pass on. Raises LocalProtocolError for an entity that is no id, or a body above 1 MiB."""
        self._check(env)
        return self._outlet.emit(env)

    def _emit_now(self, env: Envelope) -> bool:
        """As `emit`, if it need not wait; see `outlets.EmitsNow`."""
        if env[6] != self._checked or type(env[11]) is not bytes or len(env[11]) > _BODY_BYTES:
            self._check(env)
        return self._now(env)

    def emit_all(self, envs: Sequence[Envelope]) -> Coroutine[Any, Any, None]:
        """Pass on all or, if one of them is refused as `emit` would, none."""
        self._check_all(envs)
        return self._outlet.emit_all(envs)

    def _emit_ready(self, envs: Sequence[Envelope]) -> int:
        """As `emit_all` for those that need not wait; see `sayings.Ready`."""
        self._check_all(envs)
        return int(self._ready(envs))

    def _check_all(self, envs: Sequence[Envelope]) -> None:
        bodies = list(map(_BODY_OF, envs))
        plain = set(map(type, bodies)) == _BYTES and max(map(len, bodies)) <= _BODY_BYTES
        if not plain or not set(map(_ENTITY_OF, envs)) <= {"", self._checked}:
            for env in envs:
                self._check(env)

    def _check(self, env: Envelope) -> None:
        entity = env[ENTITY]
        if entity != self._checked:
            if entity and not valid_id(entity, _ENTITY_CHARS):
                raise LocalProtocolError(
                    f"a handler emitted {env[KIND]} of entity {entity[:80]!r}; an entity is an id: at most "
                    f"{_ENTITY_CHARS} of A-Z a-z 0-9 _ . : -"
                )
            self._checked = entity
        if type(env[BODY]) is not bytes:
            raise LocalProtocolError(f"a handler emitted {env[KIND]} with no bytes as its body, as every event has")
        if len(env[BODY]) > _BODY_BYTES:
            raise LocalProtocolError(
                f"a handler emitted {env[KIND]} of {len(env[BODY])} bytes; one event holds {_BODY_BYTES}"
            )
