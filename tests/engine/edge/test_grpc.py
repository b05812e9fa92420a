"""The gRPC edge over real sockets: what a client may do, what it may not, and how it ends."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from typing import Any

import grpc
import grpc.aio
import jwt
import msgpack
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from laneway.engine.edge.auth import JwtAuthenticator, JwtPolicy
from laneway.engine.edge.grpc import GrpcEdge, GrpcPolicy
from laneway.engine.edge.stream import StreamPolicy
from laneway.engine.proto.message import CALL_METHOD, SERVICE, SESSION_METHOD
from laneway.routing.envelope import BODY, KIND
from laneway.routing.errors import (
    AccessError,
    ConfigError,
    Draining,
    HandlerFailed,
    LanewayError,
    LinkLost,
    Overloaded,
    PeerProtocolError,
    RateLimited,
    RuntimeUnavailable,
    SessionExpired,
    Superseded,
    TokenExpired,
    TokenInvalid,
    Unauthenticated,
)
from laneway.routing.handshake import LinkPolicy
from tests.engine.edge.double import FRAMES, KINDS, Engine, user_message
from tests.engine.edge.rawclient import ask, channel, edge, raw

SECRET = "k" * 32
POLICY = JwtPolicy(audience="engine", issuer="us", algorithms=("HS256",))


def token(lifetime_s: float = 600, **changes: Any) -> str:
    now = time.time()
    claims = {"sub": "ada", "aud": "engine", "iss": "us", "iat": now - 60, "exp": now + lifetime_s, "tenant": "acme"}
    return jwt.encode({**claims, **changes}, SECRET)


def jwt_hook(**options: Any) -> JwtAuthenticator:
    return JwtAuthenticator({"": SECRET}, POLICY, **options)


async def still_serves(target: str, credential: str = "") -> None:
    """The next good call works."""
    assert (await ask(target, {"call": "status"}, token=credential))["result"]
    async with raw(target, credential) as session:
        assert (await session.hello("after", "after"))["resume"] == "new"


async def nobody(server: GrpcEdge) -> None:
    """Wait until the last stream has left."""
    async with asyncio.timeout(30):
        while server.streams:  # noqa: ASYNC110 (a peer's disconnect has no event on our side)
            await asyncio.sleep(0)


# ---- the good path --------------------------------------------------------------------------


def test_a_session_from_hello_to_bye() -> None:
    """hello -> welcome with the plan; an event -> ok, its run's events in order; bye -> OK status."""

    async def main() -> None:
        async with edge() as (server, engine, target), raw(target) as session:
            welcome = await session.hello()
            assert welcome["session"] == "s1"
            assert welcome["grant"] == 65_536
            await session.send({}, [user_message("one two")])
            text, kinds = b"", []
            while "RUN_FINISHED" not in kinds:
                _, envelopes = await session.next()
                for env in envelopes:
                    kinds.append(env[KIND])
                    if kinds[-1] == "TEXT_MESSAGE_CONTENT":
                        text += env[BODY]
            assert text == b"one two "
            assert kinds[0] == "RUN_STARTED"
            assert server.streams == 1
            await session.send({"bye": True})
            with pytest.raises(EOFError):
                await session.until("never")
            assert await session.call.code() is grpc.StatusCode.OK
            assert engine.session("s1").attachments == {}

    asyncio.run(main())


def test_a_half_closed_stream_has_left() -> None:
    """A client that closes its sending half leaves: status OK, no notice."""

    async def main() -> None:
        async with edge() as (_, engine, target), raw(target) as session:
            await session.hello()
            await session.call.done_writing()
            with pytest.raises(EOFError):
                await session.next()
            assert engine.session("s1").attachments == {}

    asyncio.run(main())


def test_a_cut_connection_detaches() -> None:
    """Without a goodbye the stream ends too, and nothing of it stays."""

    async def main() -> None:
        async with edge() as (server, engine, target):
            async with raw(target) as session:
                await session.hello()
            await nobody(server)
            assert engine.session("s1").attachments == {}

    asyncio.run(main())


def test_the_newest_link_of_a_client_wins() -> None:
    """The older link gets a fatal SUPERSEDED and the call's status ABORTED."""

    async def main() -> None:
        async with edge() as (_, _, target), raw(target) as first, raw(target) as second:
            await first.hello()
            await second.hello()
            told, error = await first.end()
            assert isinstance(error, Superseded)
            assert told is not None
            assert told["code"] == "SUPERSEDED"
            assert await first.call.code() is grpc.StatusCode.ABORTED

    asyncio.run(main())


def test_unary_calls() -> None:
    """A call answers, a refusal carries its delay, a crash is HANDLER_FAILED, and nonsense is typed."""

    async def main() -> None:
        async with edge() as (_, _, target):
            assert (await ask(target, {"call": "status"}, [b"a"]))["result"]["items"] == 1
            with pytest.raises(RateLimited) as refused:
                await ask(target, {"call": "refuse"})
            assert refused.value.retry_after_ms == 250
            with pytest.raises(HandlerFailed):
                await ask(target, {"call": "crash"})
            for header in ({}, {"call": 7}, {"call": "unknown"}):
                with pytest.raises(PeerProtocolError):
                    await ask(target, header)
            await still_serves(target)

    asyncio.run(main())


def test_health_and_reflection_say_what_is_served() -> None:
    """Standard tools find the service and its state."""

    async def main() -> None:
        async with edge() as (_, _, target), channel(target) as opened:
            check = health_pb2_grpc.HealthStub(opened).Check
            for service in ("", SERVICE):
                found = await check(health_pb2.HealthCheckRequest(service=service))
                assert found.status == health_pb2.HealthCheckResponse.SERVING
            listing = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo()
            await listing.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
            answer = await listing.read()
            assert b"laneway.v1" in answer.file_descriptor_response.file_descriptor_proto[0]
            await listing.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            names = [service.name for service in (await listing.read()).list_services_response.service]
            assert SERVICE in names
            listing.cancel()

    asyncio.run(main())


def test_a_burst_of_calls_is_not_refused_by_the_transport() -> None:
    """1,500 streams opened at once all get their welcome (the transport's default refuses some)."""

    async def main() -> None:
        policy = GrpcPolicy(stream=StreamPolicy(hello_s=60.0))  # a busy machine takes its time for so many
        async with edge(policy=policy) as (server, _, target), channel(target) as opened:
            frame = FRAMES.encode

            async def one(index: int) -> Any:
                call = opened.stream_stream(SESSION_METHOD)()
                offer = {"v": [1], "client": f"c{index}", "session": f"s{index % 50}"}
                body = frame({"hello": offer}, [])
                await call.write(b"\x0a" + bytes([len(body)]) + body)
                assert await call.read() is not grpc.aio.EOF
                return call

            calls = await asyncio.gather(*(one(index) for index in range(1500)))
            assert server.streams == 1500
            for call in calls:
                call.cancel()

    asyncio.run(main())


# ---- who may come in ------------------------------------------------------------------------


def test_a1_to_a11_bad_credentials_end_before_a_session_is_made() -> None:
    """Every unusable token is UNAUTHENTICATED (or too large), on streams and calls, and costs no session."""

    async def main() -> None:
        async with edge(authenticate=jwt_hook()) as (_, engine, target):
            bad: list[tuple[str, type[LanewayError]]] = [
                ("", Unauthenticated),
                ("a.b.c", TokenInvalid),
                (token(aud="other"), TokenInvalid),
                (token(lifetime_s=-10), TokenExpired),
                (jwt.encode({"sub": "x"}, SECRET), TokenInvalid),
            ]
            for value, kind in bad:
                async with raw(target, value) as session:
                    _, error = await session.end()
                    assert type(error) is kind
                    assert await session.call.code() is grpc.StatusCode.UNAUTHENTICATED
                with pytest.raises(kind):
                    await ask(target, {"call": "status"}, token=value)
            for size in (9 * 1024, 3 * 1024 * 1024):
                async with raw(target, "x" * size) as session:
                    await session.end()
                    assert await session.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert engine.sessions == {}
            await still_serves(target, token())

    asyncio.run(main())


def test_the_tenant_comes_from_the_token() -> None:
    """Two tenants' sessions of one name are two sessions."""

    async def main() -> None:
        async with (
            edge(authenticate=jwt_hook()) as (_, engine, target),
            raw(target, token()) as ours,
            raw(target, token(tenant="rival")) as theirs,
        ):
            await ours.hello()
            await theirs.hello()
            assert set(engine.sessions) == {("acme", "s1"), ("rival", "s1")}

    asyncio.run(main())


def test_a13_credentials_that_end_during_a_stream() -> None:
    """SESSION_EXPIRED is told at the end of the token, the stream goes on for the grace, then closes.

    Within the grace a link with a fresh token resumes without a hole.
    """

    async def main() -> None:
        policy = GrpcPolicy(stream=StreamPolicy(expiry_grace_s=2.0))
        async with edge(authenticate=jwt_hook(), policy=policy) as (_, _, target):
            async with raw(target, token(lifetime_s=0.3)) as session:
                epoch = (await session.hello())["epoch"]
                told = (await session.until("notice"))["notice"]
                assert (told["code"], told["fatal"]) == ("SESSION_EXPIRED", False)
                await session.send({}, [user_message("still here")])
                assert (await session.until("ok"))["ok"] == [[1, 1, "volatile"]]
                final, error = await session.end()
                assert isinstance(error, SessionExpired)
                assert final is not None
                assert final["fatal"]
            async with raw(target, token()) as again:
                welcome = await again.hello(cursor=[epoch, 0, 0], grant=1_000_000)
                assert welcome["resume"] == "resumed"
                assert (await again.until("first"))["first"] == 1

    asyncio.run(main())


def test_a14_revoked_subjects_may_not_resume() -> None:
    """PERMISSION_DENIED, whatever their token says."""

    async def main() -> None:
        gone: set[str] = set()
        hook = jwt_hook(revoked=lambda _tenant, subject: subject in gone)
        async with edge(authenticate=hook) as (_, _, target):
            async with raw(target, token()) as session:
                epoch = (await session.hello())["epoch"]
            gone.add("ada")
            async with raw(target, token()) as session:
                await session.send({"hello": {"v": [1], "client": "c1", "session": "s1", "cursor": [epoch, 0, 0]}})
                _, error = await session.end()
                assert type(error) is AccessError
                assert await session.call.code() is grpc.StatusCode.PERMISSION_DENIED

    asyncio.run(main())


def test_t4_streams_are_bounded_in_all_and_for_each_principal() -> None:
    """One too many is refused with a delay, and fits again once one has left."""

    async def main() -> None:
        policy = GrpcPolicy(max_streams=3, max_streams_per_principal=2)
        async with edge(authenticate=jwt_hook(), policy=policy) as (server, _, target):
            async with raw(target, token()) as one, raw(target, token()) as two:
                await one.hello(client="one")
                await two.hello(client="two")
                async with raw(target, token()) as third:
                    _, error = await third.end()
                    assert isinstance(error, RateLimited)
                    assert error.retry_after_ms
                async with raw(target, token(sub="bob")) as bobs:
                    await bobs.hello(client="three")
                    async with raw(target, token(sub="eve")) as fourth:
                        assert isinstance((await fourth.end())[1], Overloaded)
            await nobody(server)
            await still_serves(target, token())

    asyncio.run(main())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_a_public_address_needs_tls_and_authentication(host: str) -> None:
    """Listening beyond loopback without both is refused before a socket is opened; both are named."""

    async def main() -> None:
        engine = Engine()
        for hook, missing in (({}, "TLS and authentication"), ({"authenticate": jwt_hook()}, "TLS")):
            server = GrpcEdge(engine, kinds=KINDS, clock=engine.clock, policy=GrpcPolicy(host=host), **hook)
            with pytest.raises(ConfigError, match=missing):
                await server.start()

    asyncio.run(main())


def test_insecure_is_a_decision_that_can_be_made() -> None:
    """With `insecure` a public address is served."""

    async def main() -> None:
        async with edge(policy=GrpcPolicy(host="0.0.0.0", insecure=True)) as (_, _, target):
            await still_serves(target)

    asyncio.run(main())


def test_a_port_is_taken_by_one_edge_only() -> None:
    """A second edge on the same port fails to start; it does not share it in silence."""

    async def main() -> None:
        async with edge() as (server, engine, _):
            second = GrpcEdge(engine, kinds=KINDS, clock=engine.clock, policy=GrpcPolicy(port=server.port))
            with pytest.raises(ConfigError, match="cannot listen"):
                await second.start()

    asyncio.run(main())


# ---- what may come in -----------------------------------------------------------------------

HELLO = {"hello": {"v": [1], "client": "c1", "session": "s1"}}


def framed(header: bytes, items: bytes = b"\x90") -> bytes:
    return b"\x93\x01" + header + items


def item(**changes: Any) -> bytes:
    fields = {
        "producer": "c1",
        "counter": 1,
        "kind": "USER_MESSAGE",
        "tenant": "",
        "session": "",
        "run": "",
        "entity": "",
        "lane": 1,
        "remaining": None,
        "trace": "",
        "after": "",
        "bodies": [b"hi"],
    }
    return bytes(msgpack.packb(list({**fields, **changes}.values())))


BAD_FRAMES: list[tuple[str, bytes, str]] = [
    ("P1 limit + 1", framed(b"\x80", b"\x91\xc6" + struct.pack(">I", 1_048_568) + bytes(1_048_568)), "TOO_LARGE"),
    ("P3 nested 33", framed(b"\x81\xa1x" + b"\x91" * 33 + b"\xc0"), "DEPTH_EXCEEDED"),
    ("P3 nested 1023", framed(b"\x81\xa1x" + b"\x91" * 1023 + b"\xc0"), "DEPTH_EXCEEDED"),
    ("P3 nested 100k", framed(b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"), "DEPTH_EXCEEDED"),
    ("P4 array32", framed(b"\x81\xa1x\xdd\xff\xff\xff\xff"), "TOO_MANY_ITEMS"),
    ("P4 map32", framed(b"\xdf\xff\xff\xff\xff"), "TOO_MANY_ITEMS"),
    ("P4 bin32", framed(b"\x81\xa1x\xc6\xff\xff\xff\xff"), "TRUNCATED"),
    ("P4 items array32", framed(b"\x80", b"\xdd\xff\xff\xff\xff"), "TOO_MANY_ITEMS"),
    ("P4 empty maps", framed(b"\x81\xa1x\xdd" + struct.pack(">I", 1_000_000) + b"\x80" * 1_000_000), "TOO_MANY_ITEMS"),
    ("P5 ext 42", framed(b"\x81\xa1x\xd4\x2a\x00"), "EXT_REFUSED"),
    ("P5 timestamp", framed(b"\x81\xa1x\xd6\xff\x00\x00\x00\x00"), "EXT_REFUSED"),
    ("P5 0xc1", framed(b"\x81\xa1x\xc1"), "BAD_TYPE"),
    ("P5 trailing", framed(b"\x80") + b"\x00", "TRAILING_BYTES"),
    ("P5 truncated", b"\x93\x01\x81\xa1", "TRUNCATED"),
    ("P5 int key", framed(b"\x81\x01\x01"), "BAD_KEY"),
    ("P5 empty", b"", "TRUNCATED"),
    ("not a frame", b"\x81\xa1x\x01", "BAD_TYPE"),
    ("other version", b"\x93\x02\x80\x90", "UNKNOWN_VERSION"),
    ("P6 NaN", framed(b"\x81\xa1x\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "NON_FINITE"),
    ("P6 infinity", framed(b"\x81\xa1x\xca\x7f\x80\x00\x00"), "NON_FINITE"),
    ("P8 bad UTF-8", framed(b"\x81\xa1x\xa1\xff"), "BAD_UTF8"),
    ("P9 unknown kind", framed(b"\x80", item(kind="NO_SUCH")), "UNKNOWN_KIND"),
    ("P9 unknown kind number", framed(b"\x80", item(kind=250)), "UNKNOWN_KIND"),
    ("P9 unknown lane", framed(b"\x80", item(lane=7)), "NUMBER_RANGE"),
    ("P9 extra field", framed(b"\x80", bytes(msgpack.packb([1] * 13))), "BAD_TYPE"),
    ("P11 path as run", framed(b"\x80", item(run="../etc")), "BAD_ID"),
    ("P11 newline", framed(b"\x80", item(run="a\nb")), "BAD_ID"),
    ("P11 4 KiB id", framed(b"\x80", item(run="a" * 4096)), "BAD_ID"),
    ("wrong type", framed(b"\x80", item(counter="1")), "BAD_TYPE"),
    ("ack beyond", FRAMES.encode({"ack": ["epoch-s1", 0, 99]}, []), ""),
    ("ack nonsense", FRAMES.encode({"ack": 7}, []), "BAD_TYPE"),
]


@pytest.mark.parametrize(("frame", "reason"), [row[1:] for row in BAD_FRAMES], ids=[row[0] for row in BAD_FRAMES])
def test_p_rows_bad_frames_are_answered_with_their_rule(frame: bytes, reason: str) -> None:
    """A fatal notice names the rule, the status follows it, and the server serves on."""

    async def main() -> None:
        async with edge() as (_, engine, target):
            async with raw(target) as session:
                await session.hello()
                await session.send_frame(frame)
                told, error = await session.end()
                assert type(error) is PeerProtocolError
                assert told is not None
                assert told["code"] == "MALFORMED"
                assert error.reason == told["reason"]
                assert not reason or error.reason == reason
                status = (
                    grpc.StatusCode.RESOURCE_EXHAUSTED if reason == "TOO_LARGE" else grpc.StatusCode.INVALID_ARGUMENT
                )
                assert await session.call.code() is status
            assert engine.session("s1").handled == []
            await still_serves(target)

    asyncio.run(main())


def test_p1_p2_messages_beyond_the_transports_limit_and_compressed_ones() -> None:
    """4 MiB + 1 is RESOURCE_EXHAUSTED before it is read; compression is off, so no bomb is unpacked."""

    async def main() -> None:
        async with edge() as (_, _, target):
            async with raw(target) as session:
                await session.hello()
                await session.send_frame(bytes(4 * 1_048_576 + 1))
                await session.end()
                assert await session.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            async with channel(target) as opened:
                bomb = opened.unary_unary(CALL_METHOD)(bytes(1_000_000), compression=grpc.Compression.Gzip)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await bomb
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            await still_serves(target)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({}, "NO_HELLO"),
        ({"hello": 7}, "BAD_TYPE"),
        ({"hello": {"v": [9], "client": "c", "session": "s"}}, "UNKNOWN_VERSION"),
        ({"hello": {"v": [1], "client": "..", "session": "s"}}, "BAD_ID"),
        ({"hello": {"v": [1], "client": "c", "session": "s", "cursor": ["e", -1, 0]}}, "NUMBER_RANGE"),
        ({"hello": {"v": [1], "client": "c", "session": "s", "cursor": "x"}}, "BAD_TYPE"),
    ],
)
def test_bad_hellos_are_refused(header: dict[str, Any], reason: str) -> None:
    """An unusable introduction gets its rule and makes no link."""

    async def main() -> None:
        async with edge() as (_, engine, target):
            async with raw(target) as session:
                await session.send(header)
                told, error = await session.end()
                assert isinstance(error, PeerProtocolError)
                assert error.reason == reason
                assert told is not None
            assert all(not session.attachments for session in engine.sessions.values())

    asyncio.run(main())


def test_p10_a_client_cannot_send_what_only_the_engine_sends() -> None:
    """It is refused by its counter; the stream goes on."""

    async def main() -> None:
        async with edge() as (_, _, target), raw(target) as session:
            await session.hello()
            forged = ("c1", 1, "STATE_SNAPSHOT", "", "", "", "", 2, float("inf"), "", "", b"\x80", 0.0)
            await session.send({}, [forged, user_message("hi", counter=2)])
            header = await session.until("refused")
            assert header["refused"][0][:2] == [[1], "PERMISSION_DENIED"]
            if "ok" not in header:
                header = await session.until("ok")
            assert header["ok"] == [[2, 1, "volatile"]]

    asyncio.run(main())


# ---- time -----------------------------------------------------------------------------------


def test_a_stream_without_a_hello_is_closed() -> None:
    """A client that says nothing loses its stream at the hello deadline."""

    async def main() -> None:
        policy = GrpcPolicy(stream=StreamPolicy(hello_s=0.2))
        async with edge(policy=policy) as (_, engine, target), raw(target) as session:
            _, error = await session.end()
            assert isinstance(error, LinkLost)
            assert error.reason == "HELLO_TIMEOUT"
            assert engine.attached == 0

    asyncio.run(main())


def test_t3_silent_tcp_is_closed() -> None:
    """A connection that never speaks HTTP/2 is closed by the handshake timeout."""

    async def main() -> None:
        async with edge() as (server, _, target):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            async with asyncio.timeout(60):
                while await reader.read(1024):
                    pass  # the server's own preface
            writer.close()
            await still_serves(target)

    asyncio.run(main())


def test_t6_a_client_without_a_sign_of_life_is_dead() -> None:
    """No frame within the agreed time ends the link; the session stays for a resume."""

    async def main() -> None:
        engine = Engine(LinkPolicy(heartbeat_s=0.2))
        async with edge(engine) as (_, _, target):
            async with raw(target) as session:
                epoch = (await session.hello())["epoch"]
                _, error = await session.end()
                assert error.code == "LINK_LOST"
            async with raw(target) as session:
                assert (await session.hello(cursor=[epoch, 0, 0]))["resume"] == "resumed"

    asyncio.run(main())


def test_t5_a_ping_flood_is_stopped() -> None:
    """A peer that floods HTTP/2 pings is told to calm down and dropped; others are served."""

    async def main() -> None:
        async with edge() as (server, _, target):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            ping = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + bytes(8)
            answer = b""
            async with asyncio.timeout(60):
                try:
                    for _ in range(100):
                        writer.write(ping * 10)
                        await writer.drain()
                    while block := await reader.read(65_536):
                        answer += block
                except ConnectionError:
                    pass
            writer.close()
            assert b"too_many_pings" in answer or reader.at_eof() or reader.exception() is not None
            await still_serves(target)

    asyncio.run(main())


def test_drain_tells_everybody_and_waits() -> None:
    """Health goes first, each link gets DRAINING with a delay, new streams are refused, then it stops."""

    async def main() -> None:
        async with edge(jitter=lambda: 0.5) as (server, _, target), raw(target) as stays, raw(target) as leaves:
            await stays.hello(client="stays")
            await leaves.hello(client="leaves")
            async with channel(target) as opened:
                check = health_pb2_grpc.HealthStub(opened).Check
                await check(health_pb2.HealthCheckRequest())
                draining = asyncio.create_task(server.drain(2.5))
                told = (await leaves.until("notice"))["notice"]
                assert (told["code"], told["fatal"], told["retry_after_ms"]) == ("DRAINING", False, 1000)
                answer = await check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
                late = opened.stream_stream(SESSION_METHOD)()
                assert await late.code() is grpc.StatusCode.UNAVAILABLE
                await leaves.send({"bye": True})
                final, error = await stays.end()
                assert isinstance(error, Draining)
                assert final is not None
                await draining
            with pytest.raises(RuntimeUnavailable):
                await ask(target, {"call": "status"})

    asyncio.run(main())


def test_drain_ends_when_everybody_has_left() -> None:
    """It does not wait for its grace without need (the timeout of this test is the proof)."""

    async def main() -> None:
        async with edge() as (server, _, target), raw(target) as session:
            await session.hello()
            draining = asyncio.create_task(server.drain(3600))
            await session.until("notice")
            await session.send({"bye": True})
            async with asyncio.timeout(60):
                await draining

    asyncio.run(main())


def test_a_free_port_is_really_free_afterwards() -> None:
    """close() gives the port back."""

    async def main() -> None:
        async with edge() as (server, _, _):
            port = server.port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))

    asyncio.run(main())


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_bad_input_does_not_grow_the_process() -> None:
    """Every bad frame, over and over, leaves less than 16 MiB behind, and the server serves on."""

    async def main() -> None:
        async with edge() as (_, _, target):

            async def rounds(count: int) -> None:
                for _ in range(count):
                    for _, frame, _ in BAD_FRAMES:
                        async with raw(target) as session:
                            await session.hello()
                            await session.send_frame(frame)
                            await session.end()

            await rounds(2)
            before = _resident_bytes()
            await rounds(6)
            assert _resident_bytes() - before < 16 * 1_048_576
            await still_serves(target)

    asyncio.run(main())
