"""Bounds and rhythm of the connections between hosts, and what they mean for gRPC.

Law of this file: every option of the transport is set here, with its reason.

Options (measured with grpcio 1.85): `bdp_probe=0` and a small `lookahead_bytes` on the receiving side,
which both sides are, keep the transport from buffering megabytes of the data stream in front of an
urgent message; a local subchannel pool gives each channel a connection of its own; retries and
keepalive are off, since connections are never mended and have heartbeats of their own (a frozen process
is not noticed by TCP keepalive); a proxy of the environment is for the outside, not for hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from laneway.routing.errors import ConfigError

__all__ = ["PeerPolicy"]

_Options: TypeAlias = list[tuple[str, int]]

_BEATS_TO_LOSE: Final = 3
_FRAME_SLACK_BYTES: Final = 1_024
"""Heads of a frame's array, and heartbeats."""
_IDLE_MS: Final = 10_000
"""What a dial that was given up in its handshake leaves behind; a peer always has two streams."""
_STREAMS: Final = 8
"""Of one HTTP/2 connection; a peer needs two."""


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Bounds of each connection.

    Attributes:
        beat_s: a heartbeat follows after so long without anything sent.
        lost_s: a peer that was silent for so long is lost; at least three beats.
        connect_s: longest attempt to connect, both streams together.
        linger_s: how long the last words of a connection may take.
        queue_bytes: waiting to be written to one peer; a peer that falls further behind is lost.
        message_bytes: of one packed message; 4 MiB and room for what goes around it.
        frame_bytes, frame_messages: a frame is closed at the first of them.
        backoff_base_s, backoff_cap_s, healthy_s: of dialling again; see `routing.backoff.Backoff`.

    Raises:
        ConfigError: lost_s below three beats.
    """

    beat_s: float = 0.5
    lost_s: float = 2.0
    connect_s: float = 5.0
    linger_s: float = 0.5
    queue_bytes: int = 67_108_864
    message_bytes: int = 4_259_840
    frame_bytes: int = 65_536
    frame_messages: int = 256
    backoff_base_s: float = 0.1
    backoff_cap_s: float = 2.0
    healthy_s: float = 10.0

    def __post_init__(self) -> None:
        if self.lost_s < _BEATS_TO_LOSE * self.beat_s:
            raise ConfigError(
                f"lost_s ({self.lost_s:g}) must be at least three beats of {self.beat_s:g} s, "
                "or a slow moment costs a host"
            )

    @property
    def wire_bytes(self) -> int:
        """Largest frame: one that was all but full when the largest message came."""
        return self.message_bytes + self.frame_bytes + _FRAME_SLACK_BYTES

    def server_options(self) -> _Options:
        """Return the options of the accepting side."""
        return [
            *self._options(),
            ("grpc.so_reuseport", 0),  # otherwise a second server takes the same port in silence
            ("grpc.server.max_pending_requests", 100_000),  # the default refuses bursts at random
            ("grpc.server.max_pending_requests_hard_limit", 200_000),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.server_handshake_timeout_ms", int(self.connect_s * 1000)),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
        ]

    def channel_options(self) -> _Options:
        """Return the options of the dialling side."""
        return [
            *self._options(),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", 0),
            ("grpc.min_reconnect_backoff_ms", int(self.connect_s * 1000)),  # how long an attempt lives: 20 s if not set
            ("grpc.service_config_disable_resolution", 1),
        ]

    def _options(self) -> _Options:
        return [
            ("grpc.max_receive_message_length", self.wire_bytes),
            ("grpc.max_send_message_length", self.wire_bytes),
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 16_384),
            ("grpc.compression_enabled_algorithms_bitset", 1),  # identity only: no compression bombs
            ("grpc.max_metadata_size", 8_192),
            ("grpc.absolute_max_metadata_size", 16_384),
        ]
