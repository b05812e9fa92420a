"""A Redis server for a module of tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A durable one; its tests use prefixes of their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running
