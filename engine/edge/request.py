"""What a request says before its body: method, path, query, headers, checked once.

Law of this file: nothing here waits. Bad bytes, doubled headers that must not be doubled, and
credentials in the URL are refused; names are lower case, values text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from laneway.routing.errors import PeerProtocolError

__all__ = ["Request"]

_ONCE: Final = frozenset({"authorization", "content-length", "content-type", "host", "last-event-id", "origin"})
_TOKEN_NAMES: Final = frozenset({"access_token", "authorization", "bearer", "id_token", "jwt", "token"})
_JWT: Final = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*\Z")
_MAX_FIELDS: Final = 32


class Request:
    """One HTTP request or WebSocket upgrade.

    Attributes:
        method: upper case; "WEBSOCKET" for an upgrade.
        path: below the mount point, decoded.
        query: name -> first value. headers: lower-case name -> value, repeated ones joined by commas.
        params: the path's placeholders, set by the router.
        secure: came over TLS, as far as this server knows.
        server: address it came to, or empty.
        subprotocols: offered ones, of an upgrade.
    """

    __slots__ = ("headers", "method", "params", "path", "query", "secure", "server", "subprotocols")

    def __init__(self, method: str) -> None:
        self.method = method
        self.path = ""
        self.headers: dict[str, str] = {}
        self.query: dict[str, str] = {}
        self.params: Mapping[str, str] = {}
        self.secure = False
        self.server = ""
        self.subprotocols: tuple[str, ...] = ()

    @classmethod
    def unread(cls, scope: Mapping[str, Any]) -> Request:
        """Return a request of which only the method is known, so that what `read` refuses can be answered."""
        return cls("WEBSOCKET" if scope["type"] == "websocket" else scope["method"])

    def read(self, scope: Mapping[str, Any]) -> None:
        """Take in the rest. Raises PeerProtocolError: DUPLICATE_HEADER, TOKEN_IN_URL, BAD_QUERY."""
        self.path = _below(scope["path"], scope.get("root_path", ""))
        self.secure = scope.get("scheme") in ("https", "wss")
        self.server = str((scope.get("server") or ("",))[0])
        self.subprotocols = tuple(scope.get("subprotocols", ()))
        self.headers = _headers(scope["headers"])
        if scope.get("http_version") == "1.0" and scope.get("server"):
            host, port = scope["server"]  # before 1.1 (RFC 9112 section 3.2) a name was not sent: plain health checks
            self.headers.setdefault("host", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self.query = _query(scope.get("query_string", b""))

    def accepts(self, media: str) -> bool:
        """Return whether the Accept header names `media` itself, with a quality above 0."""
        for part in self.headers.get("accept", "").split(","):
            name, _, options = part.partition(";")
            if name.strip().lower() == media:
                return re.search(r"q\s*=\s*0(\.0*)?\s*(;|$)", options) is None
        return False

    def accepts_anything(self) -> bool:
        """Return whether no Accept header came, or one with a wildcard."""
        accept = self.headers.get("accept", "")
        return not accept or "*/*" in accept


def _below(path: str, root: str) -> str:
    """Servers differ in whether a mounted application's path still has the mount point in front."""
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        if name not in found:
            found[name] = value
        elif name in _ONCE:
            raise PeerProtocolError(f"the header {name} came twice", reason="DUPLICATE_HEADER")
        else:
            found[name] = f"{found[name]}, {value}"
    return found


def _query(raw: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise PeerProtocolError(
            "the query string is not percent-encoded UTF-8 of a few fields", reason="BAD_QUERY"
        ) from error
    found: dict[str, str] = {}
    for name, value in pairs:
        if name.lower() in _TOKEN_NAMES or _JWT.match(value):
            raise PeerProtocolError(
                "credentials do not belong into a URL, where logs and histories keep them; send them in the "
                "`authorization` header, or fetch a ticket from POST /v1/handshake",
                reason="TOKEN_IN_URL",
            )
        found.setdefault(name, value)
    return found
