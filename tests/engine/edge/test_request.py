"""What a request says, and what it may not say."""

from __future__ import annotations

import pytest

from laneway.engine.edge.request import Request
from laneway.routing.errors import PeerProtocolError
from tests.engine.edge.driver import scope


def read(path: str = "/a", headers: dict[str, str] | None = None, **more: object) -> Request:
    given = scope("GET", path, headers, **more)
    request = Request.unread(given)
    request.read(given)
    return request


def test_names_are_lower_case_and_lists_are_joined() -> None:
    """As RFC 9110 section 5.3 has it; of a query field the first counts."""
    given = scope("GET", "/a?x=1&x=2&y=%C3%A4")
    given["headers"] += [(b"Accept", b"text/html"), (b"accept", b"text/event-stream;q=0.5")]
    request = Request.unread(given)
    request.read(given)
    assert request.headers["accept"] == "text/html, text/event-stream;q=0.5"
    assert request.query == {"x": "1", "y": "ä"}
    assert request.accepts("text/event-stream")
    assert not request.accepts("application/json")


@pytest.mark.parametrize("quality", ["0", "0.0", "0.000"])
def test_a_quality_of_zero_is_a_no(quality: str) -> None:
    """And any other a yes."""
    assert not read(headers={"accept": f"application/json;q={quality}"}).accepts("application/json")
    assert read(headers={"accept": "Application/JSON; q=0.1"}).accepts("application/json")


def test_who_does_not_say_takes_anything() -> None:
    """No Accept header, or a wildcard."""
    assert read().accepts_anything()
    assert read(headers={"accept": "text/html, */*;q=0.1"}).accepts_anything()
    assert not read(headers={"accept": "text/html"}).accepts_anything()


@pytest.mark.parametrize("name", ["host", "authorization", "origin", "content-length"])
def test_a_doubled_header_that_decides_is_refused(name: str) -> None:
    """Two servers in a row could each believe another one."""
    given = scope("GET", "/a", {name: "x"})
    given["headers"].append((name.upper().encode(), b"y"))
    with pytest.raises(PeerProtocolError) as refused:
        Request.unread(given).read(given)
    assert refused.value.reason == "DUPLICATE_HEADER"


@pytest.mark.parametrize(
    "query",
    [
        "token=x",
        "access_token=",
        "TOKEN=x",
        "jwt=x",
        "q=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
        "ticket=eyJh.eyJh.",
    ],
)
def test_credentials_in_a_url_are_refused(query: str) -> None:
    """By name, or because they look like a JWT."""
    with pytest.raises(PeerProtocolError) as refused:
        read(f"/a?{query}")
    assert refused.value.reason == "TOKEN_IN_URL"


@pytest.mark.parametrize("query", ["x=%ff%fe", "&".join(f"f{n}=1" for n in range(40))])
def test_a_bad_query_is_refused(query: str) -> None:
    """Not UTF-8, or too many fields."""
    with pytest.raises(PeerProtocolError) as refused:
        read(f"/a?{query}")
    assert refused.value.reason == "BAD_QUERY"
