"""What every command has on its command line; imports neither aiohttp nor redis, so that the quick ones stay quick."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

DEFAULT_FILE = "immuproxy.yml"
SETTINGS = {"help_option_names": ["-h", "--help"]}

_F = TypeVar("_F", bound=Callable[..., Any])


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(("\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)))


def config_option(command: _F) -> _F:
    """``--config FILE``, given to the command as ``path``."""
    return click.option(
        "--config",
        "path",
        metavar="FILE",
        type=click.Path(path_type=Path),
        default=Path(DEFAULT_FILE),
        envvar="IMMUPROXY_CONFIG",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(command)


def json_option(text: str) -> Callable[[_F], _F]:
    """``--json``, given to the command as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def rate_option(default: int) -> Callable[[_F], _F]:
    """``--rate N``: requests for manifests and blobs a second."""
    return click.option(
        "--rate",
        type=click.FloatRange(min=0.1, max=10_000),
        default=default,
        show_default=True,
        help="Questions to the upstream in a second, at most.",
    )
