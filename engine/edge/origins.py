"""Which web pages may steer an engine: the rules against foreign origins and rebound names.

Law of this file: a browser tells the truth about `Origin` and `Host`, and a page can forge
neither. Whatever acts (not GET, an upgrade, an event stream) must come from our own origin or an
allowed one, or from no page at all; on loopback the name asked for must be one of this machine
(DNS rebinding: CVE-2025-49596, CVE-2025-52882). Answers are shared with allowed origins only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from laneway.engine.edge.exposure import is_loopback
from laneway.engine.edge.request import Request
from laneway.routing.errors import AccessError, ConfigError, PeerProtocolError

__all__ = ["Origins"]

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?\Z")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?\Z")
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORT: Final = {"http": "80", "https": "443"}
_PREFLIGHT: Final = {
    "access-control-allow-headers": "authorization, content-type, last-event-id, traceparent",
    "access-control-max-age": "600",
}


class Origins:
    """Who may use this edge from a web page.

    Args:
        allowed: origins beside our own, such as ``https://app.example``.
        local: it can be reached from this machine only: names of other machines are refused.

    Raises ConfigError for what is no origin; ``*`` is none.
    """

    def __init__(self, allowed: Iterable[str] = (), *, local: bool = False) -> None:
        self._allowed = frozenset(origin.lower().rstrip("/") for origin in allowed)
        self._local = local
        for origin in self._allowed:
            if _ORIGIN.match(origin) is None:
                raise ConfigError(f"edge.origins: {origin[:80]!r} is not an origin; write https://app.example")
        self._names = frozenset(origin.partition("//")[2] for origin in self._allowed)

    def check(self, request: Request) -> None:
        """Raise AccessError (BAD_HOST, BAD_ORIGIN) or PeerProtocolError (NO_HOST) if it may not be served."""
        host = request.headers.get("host", "").lower()
        match = _HOST.match(host)
        if match is None:
            raise PeerProtocolError("a request must name the host it is for", reason="NO_HOST")
        if self._local and not (is_loopback(match[1]) or host in self._names or match[1] in self._names):
            raise AccessError(
                f"{host[:80]!r} is not a name of this machine; ask for localhost, or add the origin to edge.origins",
                reason="BAD_HOST",
            )
        if self._local and request.server and not (is_loopback(request.server) or "/" in request.server):
            raise AccessError(
                "without authentication only this machine is served, and the request came to an address that others "
                "can reach; give an authenticate hook",
                reason="BAD_HOST",
            )
        if self._acts(request) and not self._may_act(request):
            raise AccessError(
                f"a web page of {request.headers.get('origin', 'another origin')[:80]} may not do this on "
                f"{host[:80]}; add its origin to edge.origins, or let the proxy in between keep the Host",
                reason="BAD_ORIGIN",
            )

    def shared(self, request: Request) -> dict[str, str]:
        """Return the headers that let the page behind this request read the answer."""
        origin = request.headers.get("origin", "").lower()
        if origin not in self._allowed:
            return {"vary": "origin"}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "etag, retry-after",
            "cross-origin-resource-policy": "cross-origin",
            "vary": "origin",
        }

    def preflight(self, request: Request, methods: Iterable[str]) -> dict[str, str]:
        """Return the headers that answer a browser's question before a request. Raises AccessError."""
        if request.headers.get("origin", "").lower() not in self._allowed:
            raise AccessError("this origin is not in edge.origins", reason="BAD_ORIGIN")
        return {"access-control-allow-methods": ", ".join(methods), **_PREFLIGHT}

    def _acts(self, request: Request) -> bool:
        return request.method not in _SAFE or request.accepts("text/event-stream")

    def _may_act(self, request: Request) -> bool:
        origin = request.headers.get("origin")
        if origin is None:  # no page, or a page's request that carries no origin: the browser says whose
            return request.headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        origin = origin.lower()
        return origin in self._allowed or _same(origin, request)


def _same(origin: str, request: Request) -> bool:
    """Return whether a page of `origin` was served by us; a TLS terminator in front may hide its scheme."""
    scheme, _, name = origin.partition("://")
    ours = "https" if request.secure else "http"
    if scheme not in _DEFAULT_PORT or (ours == "https" and scheme == "http"):
        return False
    host = request.headers["host"].lower()
    return _with_port(name, scheme) in (_with_port(host, scheme), _with_port(host, ours))


def _with_port(name: str, scheme: str) -> str:
    match = _HOST.match(name)
    return "" if match is None else f"{match[1]}:{match[2] or _DEFAULT_PORT[scheme]}"
