"""Who asks, and what they may do: values that the middleware puts on each request.  PURE."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

from immuproxy.console.access.reached import Reached


class Role(StrEnum):
    """A viewer reads; an administrator may change something, too."""

    VIEWER = "viewer"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks.  ``name`` is empty where the console asks nobody who they are; such a viewer never administers."""

    name: str = ""
    role: Role = Role.VIEWER

    @property
    def is_administrator(self) -> bool:
        """Whether they may change something."""
        return self.role is Role.ADMINISTRATOR

    def to_dict(self) -> dict[str, str | None]:
        """As the API tells it."""
        return {"name": self.name or None, "role": self.role.value}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's viewer, how they reached the console, and by what they proved who they are.

    ``secret`` is that of their session, ``line`` the hash of their line in the users file; both are empty where a proxy
    in front named them, or nobody asked.
    """

    viewer: Viewer
    reached: Reached
    secret: str = field(default="", repr=False)
    line: str = ""


VISIT: web.RequestKey[Visit] = web.RequestKey("visit", Visit)


def visit_of(request: web.BaseRequest) -> Visit | None:
    """The visit; None on pages that ask nobody, such as the log-in page."""
    return request.get(VISIT)


def viewer_of(request: web.BaseRequest) -> Viewer:
    """Who looks.  There is one wherever the middleware let a request through; anything else is an error of ours."""
    return request[VISIT].viewer
