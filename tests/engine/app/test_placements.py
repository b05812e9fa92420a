"""Where pools run."""

from __future__ import annotations

from typing import Any

import pytest

from laneway.engine.app.placements import host_bounds, placement_of, strangers
from laneway.engine.sections import RuntimeConfig
from laneway.routing.errors import ConfigError


def ray(**settings: Any) -> RuntimeConfig:
    return RuntimeConfig(kind="ray", **settings)


def test_everything_is_here_with_the_local_runtime() -> None:
    """Whatever was asked for."""
    local = RuntimeConfig(placement={"nlp": "hosts"})
    assert {placement_of(local, pool, "hosts") for pool in ("nlp", "tools", "state", "publish", "own")} == {"driver"}


def test_on_ray_pools_are_on_hosts_unless_somebody_says_otherwise() -> None:
    """The settings win over what the embedder said; documents and publications stay with the sessions."""
    assert placement_of(ray(), "nlp") == "hosts"
    assert placement_of(ray(), "own", "driver") == "driver"
    assert placement_of(ray(placement={"own": "hosts"}), "own", "driver") == "hosts"
    assert placement_of(ray(placement={"own": "driver"}), "own", "hosts") == "driver"
    assert [placement_of(ray(), pool) for pool in ("state", "publish")] == ["driver", "driver"]


def test_a_place_that_cannot_be_is_refused() -> None:
    """An unknown one, or hosts for what stays with the sessions."""
    with pytest.raises(ConfigError, match="choose hosts or driver"):
        placement_of(ray(), "own", "moon")
    with pytest.raises(ConfigError, match="stays with the sessions"):
        placement_of(ray(placement={"state": "hosts"}), "state")


def test_numbers_of_hosts() -> None:
    """One by default; as many at most as at the start, unless said; the settings win."""
    assert host_bounds(ray(), "own") == (1, 1)
    assert host_bounds(ray(), "own", 3) == (3, 3)
    assert host_bounds(ray(), "own", 2, 5) == (2, 5)
    assert host_bounds(ray(hosts={"own": 4}, max_hosts={"own": 6}), "own", 2, 5) == (4, 6)
    for hosts, most in ((0, None), (3, 2)):
        with pytest.raises(ConfigError, match="1 <= hosts <= max_hosts"):
            host_bounds(ray(), "own", hosts, most)


def test_settings_that_name_no_pool_are_found() -> None:
    """Whichever of them; one that names a pool there is, is not among them."""
    said = ray(hosts={"npl": 2, "nlp": 2}, placement={"own": "driver"}, resources={"gpu": {"GPU": 1}})
    assert strangers(said, ["nlp", "own", "tools"]) == ["runtime.hosts.npl", "runtime.resources.gpu"]
    assert strangers(ray(), []) == []
