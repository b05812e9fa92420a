"""Every setting of an engine, with its bounds and safe defaults; files and environment are read only here.

Law of this file: `Config()` reads nothing, so an embedded engine does what its caller wrote;
`Config.load` takes, strongest first: overrides (command line), `LANEWAY_<SECTION>__<FIELD>`
variables, a TOML file, the defaults. A wrong or unknown setting is a ConfigError that names the
field, what came and what is allowed; a secret is never shown.

Reachable from outside means guarded: an address that is not loopback needs TLS and authentication,
or `edge.insecure = true` in writing.

::

    [edge]
    grpc = "0.0.0.0:7700"
    tls_cert = "cert.pem"
    tls_key = "key.pem"

    [auth]
    mode = "jwt"
    issuer = "https://id.example"
    audience = "laneway"
    public_keys = { "2026" = "issuer.pem" }
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError, model_validator

from laneway.engine.fields import Address
from laneway.engine.quotas import QuotasConfig
from laneway.engine.sections import (
    AuthConfig,
    DispatchConfig,
    EdgeConfig,
    LimitsConfig,
    NlpConfig,
    OverloadConfig,
    RuntimeConfig,
    Section,
    SessionConfig,
    StoreConfig,
    TelemetryConfig,
    ToolsConfig,
)
from laneway.engine.segmenters import segmenter_of
from laneway.routing.codel import CodelPolicy
from laneway.routing.dispatch import DispatchPolicy
from laneway.routing.errors import ConfigError
from laneway.routing.handshake import LinkPolicy
from laneway.routing.limits import AdmissionPolicy
from laneway.routing.overload import OverloadPolicy

if TYPE_CHECKING:
    from laneway.actors.sessions.session import SessionPolicy

__all__ = [
    "Address",
    "AuthConfig",
    "Config",
    "DispatchConfig",
    "EdgeConfig",
    "LimitsConfig",
    "NlpConfig",
    "OverloadConfig",
    "QuotasConfig",
    "RuntimeConfig",
    "SessionConfig",
    "StoreConfig",
    "TelemetryConfig",
    "ToolsConfig",
]

_PREFIX: Final = "LANEWAY_"


class Config(Section):
    """All settings of one engine. Wrong ones raise ConfigError."""

    edge: EdgeConfig = EdgeConfig()
    store: StoreConfig = StoreConfig()
    limits: LimitsConfig = LimitsConfig()
    session: SessionConfig = SessionConfig()
    dispatch: DispatchConfig = DispatchConfig()
    quotas: QuotasConfig = QuotasConfig()
    overload: OverloadConfig = OverloadConfig()
    nlp: NlpConfig = NlpConfig()
    tools: ToolsConfig = ToolsConfig()
    auth: AuthConfig = AuthConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Config:
        """Read the settings of this process.

        Args:
            path: a TOML file; default: the one named by LANEWAY_CONFIG, or none.
            environ: default: os.environ.
            overrides: section -> field -> value; None values count as not given.
        """
        environ = os.environ if environ is None else environ
        path = path or environ.get(f"{_PREFIX}CONFIG")
        merged: dict[str, Any] = _file(Path(path)) if path else {}
        given = {
            section: {name: value for name, value in fields.items() if value is not None}
            for section, fields in (overrides or {}).items()
        }
        for layer in (_environment(environ, set(cls.model_fields)), given):
            for section, fields in layer.items():
                merged[section] = {**_table(merged, section), **fields}
        return cls.model_validate(merged)

    def session_policy(self) -> SessionPolicy:
        """Return the bounds of sessions and links as the actors take them."""
        from laneway.actors.sessions.session import SessionPolicy  # loads the actors: not needed to read a file

        own = self.session.model_dump(include=set(SessionPolicy.__dataclass_fields__))
        link = self.session.model_dump(include=set(LinkPolicy.__dataclass_fields__))
        link["segmenter"] = segmenter_of(self.session.segmenter, self.session.language)
        return SessionPolicy(**own, link=LinkPolicy(**link, max_frame_bytes=self.limits.frame_bytes))

    def dispatch_policy(self) -> DispatchPolicy:
        """Return what the dispatcher admits and how it ages."""
        own = self.dispatch
        admission = own.model_dump(include=set(AdmissionPolicy.__dataclass_fields__))
        return DispatchPolicy(
            AdmissionPolicy(**admission),
            quotas=self.quotas.policy(),
            age_s=own.age_s,
            codel=CodelPolicy(own.low_target_s or inf, own.low_interval_s),
            target_wait_s=own.target_wait_s or inf,
        )

    def overload_policy(self) -> OverloadPolicy | None:
        """Return when which level of overload begins and ends; None: never."""
        return OverloadPolicy(self.overload.lag_s, self.overload.calm_s) if self.overload.enabled else None

    @model_validator(mode="wrap")
    @classmethod
    def _as_config_error(cls, data: object, handler: Callable[[object], Config]) -> Config:
        try:
            config = handler(data)
        except ValidationError as error:
            raise _config_error(error) from None  # the cause would show secrets
        _refuse_open_doors(config.edge, config.auth)
        return config


def _refuse_open_doors(edge: EdgeConfig, auth: AuthConfig) -> None:
    """Raise ConfigError if the outside can reach an edge without TLS or authentication."""
    missing = [
        *(["edge.tls_cert and edge.tls_key"] if edge.tls_cert is None else []),
        *(['auth.mode = "jwt"'] if auth.mode == "none" else []),
    ]
    for name, address in (("grpc", edge.grpc), ("http", edge.http)):
        if missing and not address.loopback and not edge.insecure:
            raise ConfigError(
                f"edge.{name} = {address} can be reached from outside: set {' and '.join(missing)}, "
                "listen on 127.0.0.1, or take the risk with edge.insecure = true"
            )


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {path} is not TOML: {error}") from error


def _environment(environ: Mapping[str, str], sections: set[str]) -> dict[str, dict[str, object]]:
    """Return section -> field -> text of the LANEWAY_ variables; JSON for tables and lists."""
    found: dict[str, dict[str, object]] = {}
    for name, text in environ.items():
        if not name.startswith(_PREFIX):
            continue
        section, separator, field = name.removeprefix(_PREFIX).lower().partition("__")
        if not separator:
            near = next((known for known in sections if section.startswith(f"{known}_")), None)
            if near is not None:
                right = f"{_PREFIX}{near}__{section.removeprefix(near + '_')}".upper()
                raise ConfigError(f"{name} has no effect: write {right}, with two underscores after the section")
            continue  # a variable of a command, not a setting
        found.setdefault(section, {})[field] = _structured(name, text)
    return found


def _structured(name: str, text: str) -> object:
    if not text.lstrip().startswith(("{", "[")) or text.lstrip().startswith("[:") or "]:" in text:
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is neither plain text nor JSON: {error}") from None


def _table(merged: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    """Return one section of what was read so far; a scalar there is reported by validation."""
    table = merged.get(section, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{section} is a section: write [{section}] and its fields below it")
    return table


def _config_error(error: ValidationError) -> ConfigError:
    """Name the first wrong field, what came, and the fix."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(step) for step in first["loc"])
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path} is not a setting{_suggestion(first['loc'])}")
    secret = first["loc"][:2] == ("auth", "secret") or isinstance(first["input"], Mapping | BaseModel)
    came = "" if secret else f" (got {str(first['input'])[:80]!r})"
    return ConfigError(f"{path}: {first['msg'].removeprefix('Value error, ')}{came}")


def _suggestion(location: tuple[int | str, ...]) -> str:
    fields: Mapping[str, Any] = Config.model_fields
    if len(location) > 1:
        section = fields[str(location[0])].annotation
        fields = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
    near = difflib.get_close_matches(str(location[-1]), list(fields), n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(fields)}"
