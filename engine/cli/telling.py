"""How a server tells what happens to it: logs on stderr, also of its own failure.

Law of this file: once the settings are known, whatever goes to stderr is a log line in the chosen form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from laneway.engine.sections import TelemetryConfig

__all__ = ["told"]


@contextmanager
def told(config: TelemetryConfig) -> Iterator[None]:
    """Log to stderr while the block lasts; what ends it is logged, with exit code 1."""
    import logging
    import os
    import sys

    from laneway.engine.telemetry.logs import logging_to
    from laneway.routing.errors import LanewayError

    with logging_to(sys.stderr, form=config.log_format, level=config.log_level) as handler:
        if handler.structured:
            os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its core writes lines of its own form
        log = logging.getLogger("laneway")
        try:
            yield
        except LanewayError as error:
            log.critical("laneway cannot go on: %s", error)
            raise typer.Exit(1) from error
        except Exception as error:
            log.critical("laneway failed", exc_info=True)
            raise typer.Exit(1) from error
