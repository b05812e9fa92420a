"""Which pages and names may use an edge."""

from __future__ import annotations

import pytest

from laneway.engine.edge.origins import Origins
from laneway.engine.edge.request import Request
from laneway.routing.errors import AccessError, ConfigError, PeerProtocolError
from tests.engine.edge.driver import scope


def request(method: str = "POST", scheme: str = "http", server: str = "127.0.0.1", **headers: str) -> Request:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    given = scope(method, "/a", fields, scheme=scheme, server=(server, 7701))
    made = Request.unread(given)
    made.read(given)
    return made


def allowed(origins: Origins, asked: Request) -> bool:
    try:
        origins.check(asked)
    except AccessError as error:
        return error.reason not in ("BAD_HOST", "BAD_ORIGIN")
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7701", "localhost:1", "[::1]:7701", "LOCALHOST"])
def test_names_of_this_machine(host: str) -> None:
    """Any port: a tunnel may end elsewhere."""
    assert allowed(Origins(local=True), request(host=host))


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example:7701"])
def test_a_rebound_name_is_refused_on_loopback_only(host: str) -> None:
    """Reading is refused too: that is what rebinding is for. A public edge has public names."""
    assert not allowed(Origins(local=True), request("GET", host=host))
    assert allowed(Origins(), request("GET", host=host))


def test_the_name_of_an_allowed_origin_counts_on_loopback() -> None:
    """A reverse proxy on this machine hands its name on."""
    assert allowed(Origins(["https://app.example"], local=True), request(host="app.example"))


@pytest.mark.parametrize("host", ["", "a b", "evil.example/x", "user@localhost", "localhost:99999999"])
def test_a_request_names_a_host(host: str) -> None:
    """Nothing, or nonsense, is MALFORMED."""
    with pytest.raises(PeerProtocolError) as refused:
        Origins().check(request(host=host))
    assert refused.value.reason == "NO_HOST"


def test_without_authentication_only_this_machine_is_served() -> None:
    """Whatever name a peer writes; a unix socket is of this machine."""
    assert not allowed(Origins(local=True), request("GET", server="10.1.2.3"))
    assert allowed(Origins(local=True), request("GET", server="/run/laneway.sock"))


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        ("http://127.0.0.1:7701", True),
        ("https://127.0.0.1:7701", True),  # a TLS terminator in front
        ("http://127.0.0.1:7702", False),
        ("http://localhost:7701", False),
        ("https://app.example", True),
        ("HTTPS://APP.EXAMPLE", True),
        ("http://app.example", False),
        ("https://app.example.evil", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("*", False),
    ],
)
def test_pages_that_may_act(origin: str, fine: bool) -> None:
    """Our own, and those that were named."""
    assert allowed(Origins(["https://app.example"], local=True), request(origin=origin)) is fine


def test_default_ports_are_left_out_by_browsers() -> None:
    """https://host and host:443 are one origin; a page without TLS does not act on an edge with TLS."""
    origins = Origins()
    assert allowed(origins, request(host="api.example:443", origin="https://api.example", scheme="https"))
    assert allowed(origins, request(host="api.example", origin="https://api.example"))
    assert not allowed(origins, request(host="api.example", origin="http://api.example", scheme="https"))


def test_requests_without_an_origin() -> None:
    """A program sends none; for a page that sends none the browser says where it stands."""
    origins = Origins(local=True)
    assert allowed(origins, request())
    assert not allowed(origins, request(sec_fetch_site="cross-site"))
    assert not allowed(origins, request("GET", accept="text/event-stream", sec_fetch_site="cross-site"))
    assert not allowed(origins, request("GET", accept="text/event-stream", origin="https://evil.example"))
    assert allowed(origins, request("GET", accept="text/html", sec_fetch_site="cross-site"))


@pytest.mark.parametrize("origin", ["*", "app.example", "https://app.example/path", "https://*.example", "null"])
def test_what_is_no_origin_is_a_config_error(origin: str) -> None:
    """Before anything is served."""
    with pytest.raises(ConfigError, match=r"edge\.origins"):
        Origins([origin])
