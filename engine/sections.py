"""The sections of the configuration: each field with its unit, bounds and safe default.

Law of this file: a field is here only if something obeys it, and its bounds are checked here. The
rules that join sections, and where values come from, are in `config.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from laneway.engine.fields import (
    Address,
    AddressField,
    Bytes,
    Names,
    Positive,
    Seconds,
    SecondsOrOff,
    Secret,
    Share,
)
from laneway.engine.limits import Limits

__all__ = [
    "AuthConfig",
    "DispatchConfig",
    "EdgeConfig",
    "LimitsConfig",
    "NlpConfig",
    "OverloadConfig",
    "RuntimeConfig",
    "Section",
    "SessionConfig",
    "StoreConfig",
    "TelemetryConfig",
    "ToolsConfig",
]


class Section(BaseModel):
    """One table of settings: unknown fields are refused, nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class EdgeConfig(Section):
    """Where the engine listens, and within which bounds.

    Attributes:
        grpc, http: HOST:PORT.
        origins: web origins besides our own whose pages may use the HTTP edge (``https://app.example``).
        agents: names that ``/agui/{agent}`` takes; empty = any.
        on_disconnect: what becomes of an AG-UI run whose client leaves: "continue" or "cancel".
        tls_cert, tls_key: PEM files of the edge's identity; tls_client_ca: roots for mTLS.
        insecure: allow a public address without TLS or authentication.
        max_streams: streams at once on each edge: gRPC and HTTP count their own, so an engine with both
            takes twice as many; max_streams_per_principal: likewise, of one (tenant, subject).
        max_connection_age_s: connections are renewed after it; 0 = never.
        hello_s: how long a client may take to introduce itself.
        stall_s: how long one write may wait for a client that does not read.
    """

    grpc: AddressField = Address("127.0.0.1", 7700)
    http: AddressField = Address("127.0.0.1", 7701)
    origins: Names = ()
    agents: Names = ()
    on_disconnect: Literal["continue", "cancel"] = "continue"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    max_streams: Positive = 20_000
    max_streams_per_principal: Positive = 20_000
    max_connection_age_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    hello_s: Seconds = 5.0
    stall_s: Seconds = 30.0

    @model_validator(mode="after")
    def _tls_is_whole(self) -> EdgeConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together: give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        return self


class StoreConfig(Section):
    """Where logs are kept.

    Attributes:
        url: "memory" (volatile), a path or `sqlite:PATH` (durable), or `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`,
            `rediss://` with TLS (shared by hosts; as durable as the server).
        sync: "full" (sqlite survives power loss) or "normal" (survives kill -9).
        busy_s: wait for another process's transaction.
        memory_bytes: bound of the memory store; pending_bytes: of what waits for the disk or the server.
        max_dead: dead letters kept; max_dead_bytes: their events.
        prefix: of all keys in Redis; stores with different ones share a server.
        assume_durable: vouch for what a Redis server does not let us check (docs/operations.md).
        answer_s: how long one exchange with a Redis server may take.
    """

    url: Annotated[str, Field(min_length=1, repr=False)] = "memory"
    sync: Literal["full", "normal"] = "full"
    busy_s: Seconds = 2.0
    memory_bytes: Bytes = 268_435_456
    pending_bytes: Bytes = 67_108_864
    max_dead: Positive = 10_000
    max_dead_bytes: Bytes = 67_108_864
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "laneway"
    assume_durable: bool = False
    answer_s: Seconds = 5.0


class LimitsConfig(Section):
    """What a client may cost; the first seven are `laneway.engine.limits.Limits`.

    Attributes:
        sessions: sessions awake at once.
        drain_s: how long runs may still take at shutdown.
    """

    frame_bytes: Bytes = 1_048_576
    header_bytes: Bytes = 65_536
    items: Annotated[int, Field(ge=1, le=65_535)] = 1_024
    body_bytes: Bytes = 1_048_576
    depth: Annotated[int, Field(ge=1, le=200)] = 32
    elements: Positive = 10_000
    values: Positive = 50_000
    sessions: Positive = 10_000
    drain_s: Seconds = 30.0

    def codec(self) -> Limits:
        """Return the decoders' part."""
        return Limits(**{name: getattr(self, name) for name in Limits.__dataclass_fields__})


class SessionConfig(Section):
    """Bounds of one session and its links; see `SessionPolicy` and `LinkPolicy`.

    Attributes:
        runs: newest runs whose ids are remembered: an id starts one run, however often it is asked for.
        segmenter: where sentences end, when text is cut: "builtin", or "sentencex" (its extra is needed).
        language: what is mostly written, for "sentencex" (ISO 639: en, de, pt-BR).
    """

    ring_events: Positive = 1_000
    ring_bytes: Bytes = 262_144
    budget_bytes: Bytes = 262_144
    spill_bytes: Bytes = 16_777_216
    stall_s: Seconds = 120.0
    retention_bytes: Bytes = 16_777_216
    idle_s: Seconds = 120.0
    max_links: Positive = 64
    runs: Positive = 512
    chunk_chars: Annotated[int, Field(ge=16)] = 200
    flush_s: Annotated[float, Field(ge=0.001, le=1)] = 0.010
    max_items: Annotated[int, Field(ge=1, le=1_024)] = 64
    heartbeat_s: Annotated[float, Field(ge=1, le=300)] = 10.0
    pace_bytes_per_s: Bytes = 262_144
    segmenter: Literal["builtin", "sentencex"] = "builtin"
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] = "en"


class DispatchConfig(Section):
    """What the dispatcher admits before it refuses with a retry-after; see `AdmissionPolicy`.

    Attributes:
        rate_per_s, burst: events of one session in the long run, and at once.
        session_events, session_bytes: in flight per session; tenant_events, tenant_bytes: per tenant.
        process_bytes: of the whole process; low is refused from 80 %, all but critical from 90 %.
        low_share, normal_share, run_share: how much of these caps, and of the burst, may be in use for
            one more low, normal or run-starting event to be let in; the rest is left to more urgent ones.
        age_s: a lane that was passed over for so long, and by 32 events, gets a turn ahead of the others.
        target_wait_s: when events of a lane wait longer than this for a pool (median; low: four times),
            what may wait is limited to what the pool serves in that time; 0: never.
        low_target_s, low_interval_s: low events of a session that have all waited above the target for the
            interval are dropped one by one, the more often the longer it lasts (CoDel); a target of 0: never.
    """

    rate_per_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1_000.0
    burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3_000.0
    session_events: Positive = 384
    session_bytes: Bytes = 393_216
    tenant_events: Positive = 65_536
    tenant_bytes: Bytes = 67_108_864
    process_bytes: Bytes = 1_073_741_824
    low_share: Share = 0.5
    normal_share: Share = 0.75
    run_share: Share = 0.875
    age_s: Seconds = 0.25
    target_wait_s: SecondsOrOff = 1.0
    low_target_s: SecondsOrOff = 0.5
    low_interval_s: Seconds = 5.0


class OverloadConfig(Section):
    """When the engine sheds load; see `OverloadPolicy` and "When the engine is overloaded" in docs/operations.md.

    Attributes:
        enabled: false = only measured, never acted on.
        lag_s: how late the event loop is, in seconds, when levels 1, 2 and 3 begin.
        calm_s: how long it must be calm before a level ends.
    """

    enabled: bool = True
    lag_s: tuple[Seconds, Seconds, Seconds] = (0.05, 0.2, 0.5)
    calm_s: Seconds = 10.0

    @model_validator(mode="after")
    def _levels_rise(self) -> OverloadConfig:
        if not self.lag_s[0] < self.lag_s[1] < self.lag_s[2]:
            raise ValueError("lag_s names three rising numbers of seconds, one for each level")
        return self


class NlpConfig(Section):
    """The nlp pool.

    Attributes:
        model: "synthetic", "scripted", "local-llm", "openai:URL", or empty: the embedder gives one.
        degraded_model: a cheaper one, which answers the runs that begin while the engine is overloaded (level 2).
        concurrency: runs at once.
        raw: let RAW events and `rawEvent` fields of models through to clients of our protocol; AG-UI clients never
            get them.
        unread: what becomes of a run that nobody reads: "pause" (it waits at its next event), "continue" (it
            goes on into the log), "close" (its model is let go, and it ends PAUSED), or "auto": "continue"
            over a model that generates whether it is read or not, else "pause".
        target_wait_s: as `dispatch.target_wait_s`, for runs: people wait for the answer of a busy model.
        tenant_share: of the runs at once that one tenant may have while others use the pool, or did within the
            last minute; 1: any.
    """

    model: str = ""
    raw: bool = False
    degraded_model: str = ""
    concurrency: Positive = 256
    target_wait_s: SecondsOrOff = 10.0
    tenant_share: Annotated[float, Field(gt=0, le=1)] = 0.75
    unread: Literal["auto", "pause", "continue", "close"] = "auto"

    @model_validator(mode="after")
    def _stands_in_for_one(self) -> NlpConfig:
        if self.degraded_model and not self.model:
            raise ValueError("degraded_model stands in for model: name both, or give engine.nlp.use(..., degraded=...)")
        return self


class ToolsConfig(Section):
    """The tools pool.

    Attributes:
        workers: most processes for plain functions. concurrency: calls at once.
        target_wait_s: as `dispatch.target_wait_s`, for calls.
    """

    workers: Annotated[int, Field(ge=1, le=1_024)] = 2
    concurrency: Positive = 256
    target_wait_s: SecondsOrOff = 5.0


class RuntimeConfig(Section):
    """Where actors run; all but `kind` is read with "ray" only.

    Attributes:
        kind: "local": all in this process; "ray": pools on hosts that Ray places, supervises and scales.
        address: of the Ray cluster ("auto", or HOST:PORT of its head); empty = the one RAY_ADDRESS
            names, else a local one is started for this engine.
        node_ip: IP of the Ray node that this engine belongs to, where its machine has several; empty = any.
        cluster: engines of one name are one cluster and share its hosts (Ray namespace ``laneway/NAME``).
        hosts: pool -> hosts at the start, and the fewest; a pool that is not named here gets one.
        max_hosts: pool -> most hosts it may be scaled to; default: as many as at the start.
        placement: pool -> "hosts" (default), or "driver": in the engine's own process, where it may use
            what has no import path (closures, objects).
        cpus: of each host; fractional, so that two cores are enough and an autoscaler sees the demand.
        resources: pool -> what else each of its hosts asks Ray for, by Ray's names ("GPU", "memory" in
            bytes, or custom ones): a pool runs only where there is such a thing.
        leave_hosts: hosts that this engine makes stay when it closes, for the other engines of the
            cluster; `laneway serve` does so unless told otherwise. They end with `laneway cluster stop`.
        ready_s: how long a host may take to become ready.
        beat_s, lost_s: a host says so often that it lives, and is given up after so long a silence.
        durability: "volatile" allows several fronts without a shared store: sessions then end with theirs.
        tls_cert, tls_key, tls_ca: mutual TLS between hosts; all three or none.
        tls_name: the name that stands in every host's certificate; empty = each carries its address.
    """

    kind: Literal["local", "ray"] = "local"
    address: str = ""
    node_ip: str = ""
    cluster: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")] = "laneway"
    hosts: dict[str, Annotated[int, Field(ge=1, le=1_024)]] = {}
    max_hosts: dict[str, Annotated[int, Field(ge=1, le=1_024)]] = {}
    placement: dict[str, Literal["hosts", "driver"]] = {}
    cpus: Annotated[float, Field(gt=0, le=256, allow_inf_nan=False)] = 0.25
    resources: dict[str, dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]] = {}
    leave_hosts: bool = False
    ready_s: Seconds = 20.0
    beat_s: Annotated[float, Field(ge=0.05, le=60)] = 0.5
    lost_s: Annotated[float, Field(ge=0.2, le=600)] = 2.0
    durability: Literal["durable", "volatile"] = "durable"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    tls_name: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> RuntimeConfig:
        if len({path is None for path in (self.tls_cert, self.tls_key, self.tls_ca)}) > 1:
            raise ValueError("tls_cert, tls_key and tls_ca go together: give all three or none")
        if self.tls_name and self.tls_ca is None:
            raise ValueError("tls_name needs tls_cert, tls_key and tls_ca")
        if any("CPU" in asked for asked in self.resources.values()):
            raise ValueError("CPUs are the same for all hosts: runtime.cpus, not runtime.resources")
        if self.lost_s < 3 * self.beat_s:
            raise ValueError("lost_s must be at least three beats (3 * beat_s), or a slow moment costs a host")
        return self


class AuthConfig(Section):
    """Who may connect.

    Attributes:
        mode: "none" or "jwt".
        issuer, audience: whose tokens count, and our name in them; required for jwt.
        secret: HMAC key (32 bytes or more), or public_keys: key id -> PEM file. One of the two.
        algorithms: of one family only; default: HS256 for a secret, else EdDSA, ES256, RS256.
        leeway_s: clock difference forgiven. max_lifetime_s: longest `exp - iat` accepted.
        tenant_claim, scope_claim: where tenant and scopes stand in the token.
    """

    mode: Literal["none", "jwt"] = "none"
    issuer: str = ""
    audience: str = ""
    secret: Secret | None = None
    public_keys: dict[str, Path] = {}
    algorithms: Names = ()
    leeway_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    max_lifetime_s: Seconds = 3_600.0
    tenant_claim: Annotated[str, Field(min_length=1)] = "tenant"
    scope_claim: Annotated[str, Field(min_length=1)] = "scope"

    @model_validator(mode="after")
    def _jwt_is_whole(self) -> AuthConfig:
        if self.mode == "none":
            return self
        if not self.issuer or not self.audience:
            raise ValueError("jwt needs issuer and audience; without them any service's tokens would count")
        if (self.secret is None) == (not self.public_keys):
            raise ValueError("jwt needs either secret or public_keys")
        return self


class TelemetryConfig(Section):
    """What is measured, and where it goes.

    Attributes:
        otlp: URL of an OTLP/gRPC receiver (``http://127.0.0.1:4317``) for traces and metrics; empty = none.
        sample_ratio: share of events that begin a trace of their own.
        follow_clients: trace what a client traces, at most `traces_per_s`.
        traces_per_s: traces begun here, and likewise followed, per second; more are not sampled.
        export_s: pause between two exports of metrics.
        service: `service.name` of what is exported.
        log_format: "json", "text", or "auto": text on a terminal. log_level: lowest level written.
    """

    otlp: str = ""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    follow_clients: bool = True
    traces_per_s: Positive = 100
    export_s: Annotated[float, Field(ge=1, le=3_600)] = 15.0
    service: Annotated[str, Field(min_length=1, max_length=128)] = "laneway"
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _otlp_is_a_url(self) -> TelemetryConfig:
        if self.otlp and not self.otlp.startswith(("http://", "https://")):
            raise ValueError("otlp is a URL: http://HOST:4317, or https:// for TLS")
        return self
