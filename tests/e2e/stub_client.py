"""A client with nothing of laneway: stubs generated from edge.proto, grpcio and msgpack.

    python stub_client.py STUBS TARGET SESSION TEXT CUT_AFTER

Sends TEXT as a user's message, reads its run. When the connection breaks, or after CUT_AFTER data
items (0 = never) by a call cancelled without a word, it connects again and resumes with its cursor.
Prints one JSON line: {"text", "seqs", "kinds", "resumes"}. It follows docs/protocol.md and knows the
kinds' numbers only as far as it needs them.
"""

from __future__ import annotations

import json
import queue
import sys
from collections.abc import Iterator
from typing import Any

import grpc
import msgpack

sys.path.insert(0, sys.argv[1])

import edge_pb2
import edge_pb2_grpc

USER_MESSAGE, TEXT_MESSAGE_CONTENT, RUN_FINISHED = 5, 16, 32
CLIENT = "stub"
ATTEMPTS = 20


class Reader:
    """Where this client is in the data stream, and what it has read."""

    def __init__(self) -> None:
        self.cursor: list[Any] | None = None
        self.skip = 0
        self.position = 0
        self.text = b""
        self.kinds: list[int] = []
        self.items = 0

    def welcome(self, welcome: dict[str, Any]) -> None:
        assert welcome["cursor"][:3] == self.cursor or self.cursor is None, welcome
        self.cursor = list(welcome["cursor"])
        self.position = welcome["position"] + self.skip

    def take(self, header: dict[str, Any], columns: list[Any]) -> None:
        """Trim what is known, refuse holes, move the cursor."""
        assert self.cursor is not None
        stream, seq, skip = header["stream"], header["first"], header.get("skip", 0)
        bodies = columns[11]
        kinds = columns[2] if isinstance(columns[2], list) else [columns[2]] * len(bodies)
        shape = header.get("shape") or [[1, 0]] * len(bodies)
        for (span, tail, *passed), kind, body in zip(shape, kinds, bodies, strict=True):
            have = self.cursor[1 + stream]
            assert seq == have + 1, f"stream {stream}: {seq} after {have}"
            assert skip == (self.skip if stream else 0)
            self.kinds.append(kind)
            self.items += 1
            if kind == TEXT_MESSAGE_CONTENT:
                self.text += body
            whole = span - 1 if tail else span
            if stream:
                self.skip = tail
                self.position += len(body) + 16 * whole + sum(passed)
            self.cursor[1 + stream] += whole
            seq, skip = seq + whole, tail


def hello(session: str, reader: Reader) -> dict[str, Any]:
    offer: dict[str, Any] = {"v": [1], "client": CLIENT, "session": session, "caps": {"grants": True}}
    if reader.cursor is not None:
        offer.update(cursor=reader.cursor, skip=reader.skip, grant=reader.position + 65_536)
    return {"hello": offer}


def connect(target: str, session: str, reader: Reader, first: list[Any], stop_after: int) -> bool:
    """One connection; True when the run is over, False after `stop_after` items."""
    out: queue.Queue[bytes | None] = queue.Queue()

    def send(header: dict[str, Any], columns: list[Any]) -> None:
        out.put(msgpack.packb([1, header, columns]))

    def requests() -> Iterator[edge_pb2.Frame]:
        while (frame := out.get()) is not None:
            yield edge_pb2.Frame(frame=frame)

    with grpc.insecure_channel(target) as channel:
        send(hello(session, reader), [])
        send({}, first)
        call = edge_pb2_grpc.EdgeStub(channel).Session(requests(), timeout=60)
        try:
            for answer in call:
                _, header, columns = msgpack.unpackb(answer.frame)
                assert "refused" not in header, header
                if "welcome" in header:
                    reader.welcome(header["welcome"])
                if columns and "stream" in header:
                    reader.take(header, columns)
                    if 0 < stop_after <= reader.items:
                        call.cancel()
                        return False
                    send({"ack": reader.cursor, "grant": reader.position + 65_536}, [])
                if "ping" in header:
                    send({"pong": header["ping"]}, [])
                if RUN_FINISHED in reader.kinds:
                    send({"bye": True}, [])
                    return True
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        finally:
            out.put(None)
    raise AssertionError("the engine closed the stream")


def main() -> None:
    target, session, text, cut_after = sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
    first = [CLIENT, 1, USER_MESSAGE, "", "", "run-1", "", 1, None, "", "", [text.encode()]]
    reader = Reader()
    resumes = 0
    # sent again with each connection, as if its answer had been lost: the engine knows the counter
    while not connect(target, session, reader, first, 0 if resumes else cut_after):
        resumes += 1
        assert resumes < ATTEMPTS
    assert "laneway" not in sys.modules
    result = {"text": reader.text.decode(), "seqs": reader.cursor, "kinds": reader.kinds, "resumes": resumes}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
