"""The section of the configuration that says who may use how much of the engine.

Law of this file: as in `sections.py`; 0 stands for no limit, since TOML's infinity is easily mistyped.
"""

from __future__ import annotations

from math import inf
from typing import Annotated

from pydantic import Field

from laneway.engine.sections import Section
from laneway.routing.quotas import Quota, QuotaPolicy

__all__ = ["QuotaConfig", "QuotasConfig"]


class QuotaConfig(Section):
    """What one tenant or subject may use over all its sessions; 0 = no limit. See `Quota`.

    Attributes:
        rate_per_s, burst: events in the long run, and at once.
        events, bytes: in flight. runs: runs at once. sessions: sessions with events (tenants only).
    """

    rate_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1_000.0
    events: Annotated[int, Field(ge=0)] = 0
    bytes: Annotated[int, Field(ge=0)] = 0
    runs: Annotated[int, Field(ge=0)] = 0
    sessions: Annotated[int, Field(ge=0)] = 0

    def quota(self) -> Quota:
        """Return it as the dispatcher takes it."""
        limits = {name: value or inf for name, value in self.model_dump().items()}
        return Quota(**limits)


class QuotasConfig(Section):
    """Who may use how much of the engine; nobody is limited unless told.

    Attributes:
        tenant: each tenant. principal: each subject of a tenant (the token's `sub`).
        tenants: tenant -> its own quota, instead of `tenant`'s.
    """

    tenant: QuotaConfig = QuotaConfig()
    principal: QuotaConfig = QuotaConfig()
    tenants: dict[str, QuotaConfig] = Field(default_factory=dict)

    def policy(self) -> QuotaPolicy:
        """Return them as the dispatcher takes them."""
        tenants = {name: one.quota() for name, one in self.tenants.items()}
        return QuotaPolicy(self.tenant.quota(), self.principal.quota(), tenants)
