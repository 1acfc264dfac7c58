from __future__ import annotations

from immuproxy.web.sources import Part
from tests.web.conftest import Console, State


async def test_the_process_is_healthy_whatever_else_is_down(console: Console, state: State) -> None:
    state.parts = (Part("redis", ok=False),)
    async with console.get("/healthz") as response:
        assert response.status == 200


async def test_ready_only_when_both_answer(console: Console, state: State) -> None:
    async with console.get("/readyz") as response:
        assert (response.status, (await response.json())["ready"]) == (200, True)
    state.parts = (Part("redis", ok=True), Part("upstream", ok=False, detail="connection refused"))
    async with console.get("/readyz") as response:
        body = await response.json()
        assert response.status == 503
        assert body["parts"][1] == {"name": "upstream", "ok": False, "detail": "connection refused"}


async def test_metrics_are_those_of_the_registry(console: Console) -> None:
    async with console.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert "seen_total 3.0" in await response.text()


async def test_metrics_in_the_newer_form_when_asked(console: Console) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    async with console.get("/metrics", headers={"Accept": accept}) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")
