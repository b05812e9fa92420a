"""Names of hosts; hosts themselves are in test_ray_cluster.py, their lives in test_lives.py."""

from __future__ import annotations

from importlib.metadata import version

from laneway.engine.runtime.ray_host import host_name, laneway_version, pool_of


def test_a_name_leads_back_to_its_pool() -> None:
    """Whatever the pool is called; other actors are no hosts."""
    for pool in ("nlp", "my/pool", "host"):
        assert pool_of(host_name(pool, 3)) == pool
    assert pool_of("registry") == ""
    assert host_name("nlp", 0) == "host/nlp/0"


def test_the_version_is_the_installed_one() -> None:
    """Of this process."""
    assert laneway_version() == version("laneway")
