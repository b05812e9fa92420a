"""The bounds of connections fit together."""

from __future__ import annotations

import pytest

from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.errors import ConfigError


def test_a_host_may_miss_two_beats() -> None:
    """Three beats are the least after which a peer may be called lost."""
    PeerPolicy(beat_s=1, lost_s=3)
    with pytest.raises(ConfigError, match="three beats"):
        PeerPolicy(beat_s=1, lost_s=2.9)


def test_the_transport_lets_every_frame_through() -> None:
    """gRPC's own bounds are above the largest frame, on both sides."""
    policy = PeerPolicy()
    for options in (dict(policy.server_options()), dict(policy.channel_options())):
        assert options["grpc.max_receive_message_length"] == policy.wire_bytes
        assert policy.wire_bytes >= policy.message_bytes + policy.frame_bytes
    assert policy.message_bytes > 4 * 1024 * 1024
