from __future__ import annotations

import pytest

from tests.web.conftest import Console
from tests.web.logging_in import ADMINISTRATOR, VIEWER, log_in, send_log_in


@pytest.mark.parametrize("name", [ADMINISTRATOR, VIEWER])
async def test_a_log_in_opens_the_pages(closed_console: Console, name: str) -> None:
    await log_in(closed_console, name)
    async with closed_console.get("/api/v1/viewer") as response:
        role = "administrator" if name == ADMINISTRATOR else "viewer"
        assert await response.json() == {"name": name, "role": role}
    for path in ("/", "/audit", "/rules", "/api/v1/events"):
        async with closed_console.get(path) as response:
            assert response.status == 200


async def test_a_wrong_password_does_not(closed_console: Console) -> None:
    response = await send_log_in(closed_console, ADMINISTRATOR, "wrong")
    assert response.status == 401
    async with closed_console.get("/api/v1/events") as answer:
        assert answer.status == 401
