"""structlog, set up once: JSON lines for machines, or readable lines for a terminal, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Literal, TextIO

import structlog


def configure(*, level: str = "info", form: Literal["json", "console"] = "json") -> None:
    """Set up logging for the process, again where it was before; ``level`` as in the standard library, in any case.

    What libraries log by the standard library comes out in the same form, from warnings on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    described: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([structlog.processors.format_exc_info] if form == "json" else []),
    ]
    renderer = structlog.processors.JSONRenderer() if form == "json" else _for_people()
    structlog.configure(
        processors=[*described, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line is one write: processes share the file
        cache_logger_on_first_use=False,
    )
    handler = _Libraries(sys.stderr)
    handler.setFormatter(_formatter(described, renderer))
    handler.setLevel(max(number, logging.WARNING))
    _replace(handler)


class _Libraries(logging.StreamHandler[TextIO]):
    """Writes what libraries log."""


def _replace(handler: _Libraries) -> None:
    """Put it in the place of one that was set up before; handlers of others stay."""
    root = logging.getLogger()
    for before in [one for one in root.handlers if isinstance(one, _Libraries)]:
        root.removeHandler(before)
    root.addHandler(handler)


def _for_people() -> structlog.dev.ConsoleRenderer:
    """Traces without the values of variables, which the usual form shows: they may be credentials (H84)."""
    colours = sys.stderr.isatty()  # they are noise in a file
    return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)


def _formatter(described: list[structlog.typing.Processor], renderer: structlog.typing.Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=described, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
