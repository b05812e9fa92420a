"""Quotas as settings: 0 is no limit, and a tenant may have its own."""

from __future__ import annotations

from math import inf

import pytest

from laneway.engine.config import Config
from laneway.routing.errors import ConfigError


def test_quotas_reach_the_dispatcher() -> None:
    """0 is no limit; a tenant may have a quota of its own."""
    given = {"tenant": {"rate_per_s": 50}, "principal": {"runs": 4}, "tenants": {"big": {"rate_per_s": 0, "events": 9}}}
    quotas = Config.model_validate({"quotas": given}).dispatch_policy().quotas
    assert (quotas.tenant.rate_per_s, quotas.tenant.events) == (50.0, inf)
    assert quotas.principal.runs == 4
    assert (quotas.tenants["big"].rate_per_s, quotas.tenants["big"].events) == (inf, 9)
    assert Config().dispatch_policy().quotas.free


def test_a_quota_below_nothing_is_refused() -> None:
    """A negative limit and an unknown field are mistakes that name themselves."""
    for wrong in ({"events": -1}, {"burst": 0}, {"rate": 3}):
        with pytest.raises(ConfigError, match="quotas"):
            Config.model_validate({"quotas": {"tenant": wrong}})
