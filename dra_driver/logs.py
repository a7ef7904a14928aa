"""Logs as events with keys, one line each, on stderr.

One thing has one key in every module, so that a line can be found whoever wrote it: `claim` (as people name it) with
its `uid`, `share` (the key of a share), `device` (the published name), `device_uuid` (the card's), `pool`, `slice`,
`vendor`, `node`, `error` (in words) with its `kind`, `code` and `reason` of a fault, `path` and `folder` on the host,
`retry_seconds`.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(*, level: str, style: str) -> None:
    """Set up structlog: `style` is json (for collectors) or text (for people)."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if style == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if style == "json" else structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def adopt(library: str, *, level: int) -> None:
    """Let what a library logs in its own way, from `level` on, come out as events of ours."""
    logger = logging.getLogger(library)
    logger.handlers = [_Adopting()]
    logger.propagate = False
    logger.setLevel(level)


class _Adopting(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log: structlog.stdlib.BoundLogger = structlog.get_logger(record.name)
        log.log(
            record.levelno,
            "library_said",
            library=record.name,
            message=record.getMessage(),
            error=str(record.exc_info[1]) if record.exc_info else None,
        )
