"""The description of the API against the API: the same paths, and answers of the described form, whatever is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from immuproxy.ledger.model import Outcome
from immuproxy.web.app import make_console
from immuproxy.web.assets import OPENAPI
from immuproxy.web.sources import Sources
from tests.servers import running_redis
from tests.web.consoles import RunningConsole, running_console
from tests.web.events import digest, push

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_dict({**OPENAPI})


@pytest.fixture(scope="module")
def filled() -> Iterator[RunningConsole]:
    with running_redis() as redis, running_console(redis.url) as console:
        console.seed([push(id="a1"), push(Outcome.REFUSED, id="a2", digest=digest("two"), reason="no")])
        yield console


@schema.include(path_regex="^(?!.*live)").parametrize()
@settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default:Do not use the `random` module")  # schemathesis does, for bodies
def test_answers_are_as_described_whatever_is_asked(case: schemathesis.Case[Any], filled: RunningConsole) -> None:
    response = case.call(base_url=filled.url)
    case.validate_response(response, checks=CHECKS)


KNOWN = {
    "/api/v1/events/a1": "event",
    "/api/v1/repositories/team%2Fapp": "repository",
    "/api/v1/repositories/team/app/tags/1.0": "tag",
    f"/api/v1/repositories/team/app/manifests/{digest('one')}": "manifest",
    f"/api/v1/compare?a=team/app:1.0&b={digest('one')}": "compare",
    "/api/v1/overview?range=7d": "overview",
    "/api/v1/events?limit=1": "events",
    "/api/v1/rules": "rules",
    "/api/v1/rules/explain?tag=team/app:1.0": "explain",
    "/api/v1/repositories": "repositories",
    "/api/v1/drift": "drift",
    "/api/v1/exceptions": "exceptions",
    "/api/v1/complete?q=out": "complete",
}


@pytest.mark.parametrize(("path", "operation"), KNOWN.items())
def test_what_is_there_answers_200_as_described(filled: RunningConsole, path: str, operation: str) -> None:
    response = requests.get(filled.url + path, timeout=10)
    assert response.status_code == 200
    schema.find_operation_by_id(operation).validate_response(response)


async def test_every_route_is_described_and_every_description_has_a_route(sources: Sources) -> None:
    routed = {
        re.sub(r":[^}]*}", "}", resource.canonical)
        for resource in make_console(sources).router.resources()
        if resource.canonical.startswith(("/api/v1/", "/healthz", "/readyz"))
    }
    places = {path for path in OPENAPI["paths"] if "{name}" in path}
    described = {path for path in OPENAPI["paths"] if path not in places} | {"/api/v1/repositories/{place}"}
    assert routed - {"/api/v1/openapi.json"} == described
    assert len(places) == 3


def test_it_is_served(filled: RunningConsole) -> None:
    assert requests.get(f"{filled.url}/api/v1/openapi.json", timeout=10).json() == OPENAPI
