"""Errors as plain data: what went wrong, told to another process and raised there as the same class.

Law of this file: nobody parses sentences. A code makes the class; a code that this version does not
know keeps what was said of it, above all whether a retry may help. What another process says about
an error is never trusted to be well formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from laneway.routing.errors import LanewayError, PeerProtocolError

__all__ = ["error_fields", "error_of_code", "error_of_fields"]


def _classes(root: type[LanewayError]) -> Iterator[type[LanewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from _classes(child)


_BY_CODE: Final = {kind.code: kind for kind in _classes(LanewayError)}


class _RemoteError(LanewayError):
    """An error whose code this version does not know; `code` and `retryable` are the other side's."""

    def __init__(self, message: str, *, code: str, retryable: bool, reason: str, retry_after_ms: int | None) -> None:
        super().__init__(message, reason=reason, retry_after_ms=retry_after_ms)
        self.code = code  # type: ignore[misc]
        self.retryable = retryable  # type: ignore[misc]


def error_of_code(
    code: object, message: object, *, reason: object = "", retry_after_ms: object = None, retryable: bool = False
) -> LanewayError:
    """Return the error of a code as the other side sent it; values of a wrong type are dropped. O(1)."""
    delay = retry_after_ms if isinstance(retry_after_ms, int) and retry_after_ms >= 0 else None
    text, why = str(message), reason if isinstance(reason, str) else ""
    kind = _BY_CODE.get(code) if isinstance(code, str) else None
    if kind is None:
        return _RemoteError(text, code=str(code), retryable=retryable, reason=why, retry_after_ms=delay)
    return kind(text, reason=why, retry_after_ms=delay)


def error_fields(error: LanewayError) -> list[Any]:
    """Return [code, message, reason, retryable, retry_after_ms]: what `error_of_fields` takes."""
    message = error.message.encode("utf-8", "replace").decode()  # half a character cannot travel
    return [error.code, message, error.reason, error.retryable, error.retry_after_ms]


def error_of_fields(fields: object) -> LanewayError:
    """Return the error that `error_fields` was made of. Raises PeerProtocolError if they cannot be that."""
    if not isinstance(fields, list | tuple) or len(fields) != 5:
        raise PeerProtocolError("an error is told as [code, message, reason, retryable, retry_after_ms]")
    code, message, reason, retryable, retry_after_ms = fields
    return error_of_code(code, message, reason=reason, retry_after_ms=retry_after_ms, retryable=retryable is True)
