"""The description of the API against the API: the same paths, and answers of the described form, whatever is asked.

``OPENAPI_EXAMPLES=200`` asks more often than a usual run does: each operation of an open console and of a closed one,
where the usual run asks the closed one only for what it does not answer everybody alike.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from immuproxy.audit import Audit
from immuproxy.console.access import log_ins
from immuproxy.console.app import LARGEST_BODY, make_console
from immuproxy.console.assets import openapi
from immuproxy.console.sources import Sources
from immuproxy.console.what_if import trials
from immuproxy.ledger.model import Outcome
from immuproxy.ledger.register import Register
from immuproxy.rehearsal.child import work
from immuproxy.rehearsal.run import Finished, Stage, Step, Wrong
from tests.console.consoles import RunningConsole, running_console
from tests.console.events import digest, push
from tests.console.logging_in import ADMINISTRATOR, FROM_HERE, PASSWORDS, VIEWER, users_in
from tests.support.servers import running_redis

OPENAPI = openapi()
USUAL = 3
EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", USUAL))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = ["POST", "DELETE"] + ["GET"] * (EXAMPLES > USUAL)
schema = schemathesis.openapi.from_dict({**OPENAPI})
schema.config.generation.update(with_security_parameters=False)  # else it overwrites who asks

whatever = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
patient = pytest.mark.timeout(max(120, 10 * EXAMPLES))
forgiving = pytest.mark.filterwarnings("default:Do not use the `random` module")  # schemathesis does, for bodies


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks which console."""

    console: RunningConsole
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: Mapping[str, str] = field(default_factory=dict)

    def ask(self, case: schemathesis.Case[Any]) -> None:
        response = case.call(base_url=self.console.url, headers=dict(self.headers), cookies=dict(self.cookies))
        case.validate_response(response, checks=CHECKS)


async def rehearse_here(
    _audit: Audit, _register: Register, file: bytes, source: str, *, most: int
) -> AsyncIterator[Step]:
    """A rehearsal of nothing, without a process of its own; starting one for each request takes most of the time."""
    answers: list[dict[str, Any]] = []
    work(io.BytesIO(json.dumps({"source": source, "bytes": len(file)}).encode() + b"\n" + file), answers.append)
    if "problems" in answers[0]:
        yield Wrong(tuple(answers[0]["problems"]), answers[0]["more"])
    else:
        yield Stage("judging")
        yield Finished(judged=0, changed=0)


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    if EXAMPLES <= USUAL:
        monkeypatch.setattr(trials, "rehearse", rehearse_here)


def fill(console: RunningConsole) -> None:
    console.seed([push(id="a1"), push(Outcome.REFUSED, id="a2", digest=digest("two"), reason="no")])


@pytest.fixture(scope="module")
def filled() -> Iterator[RunningConsole]:
    with running_redis() as redis, running_console(redis.url) as console:
        fill(console)
        yield console


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Caller]]:
    """A console that asks for passwords, as everybody sees it; the empty name is a stranger's."""
    auth = users_in(tmp_path_factory.mktemp("users"))
    with running_redis() as redis, running_console(redis.url, auth=auth) as console:
        fill(console)
        yield {"": Caller(console)} | {name: logged_in(console, name) for name in PASSWORDS}


def logged_in(console: RunningConsole, name: str) -> Caller:
    data = {"name": name, "password": PASSWORDS[name]}
    response = requests.post(f"{console.url}/log-in", data=data, headers=FROM_HERE, timeout=10, allow_redirects=False)
    assert response.status_code == 303
    return Caller(console, cookies={key: value or "" for key, value in response.cookies.items()})


@schema.include(path_regex="^(?!.*live)").parametrize()
@whatever
@patient
@forgiving
@pytest.mark.usefixtures("_quick")
def test_answers_are_as_described_whatever_is_asked(case: schemathesis.Case[Any], filled: RunningConsole) -> None:
    Caller(filled).ask(case)


@pytest.mark.parametrize("name", [VIEWER, ADMINISTRATOR])
@schema.include(path_regex="^/api/v1/(?!live)", method=METHODS).parametrize()
@whatever
@patient
@forgiving
@pytest.mark.usefixtures("_quick")
def test_a_closed_console_answers_as_described(
    case: schemathesis.Case[Any], closed: Mapping[str, Caller], name: str
) -> None:
    closed[name].ask(case)


OPERATIONS = [
    (method, path, described["operationId"])
    for path, item in OPENAPI["paths"].items()
    for method, described in item.items()
    if path.startswith("/api/v1/")
]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
def test_a_stranger_is_told_so_as_described(
    closed: Mapping[str, Caller], method: str, path: str, operation: str
) -> None:
    response = requests.request(method, closed[""].console.url + re.sub(r"\{.*?\}", "x", path), timeout=10)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "not_logged_in")
    schema.find_operation_by_id(operation).validate_response(response)


def test_who_guesses_is_told_so_as_described(closed: Mapping[str, Caller]) -> None:
    codes = []
    for number in range(log_ins.NETWORK[0] + 1):
        url = f"{closed[''].console.url}/api/v1/rules"
        response = requests.get(url, auth=("nobody", f"guess {number}"), timeout=10)
        schema.find_operation_by_id("rules").validate_response(response)
        codes.append((response.status_code, response.json()["error"]["code"]))
    assert codes[0] == (401, "wrong_password")
    assert codes[-1] == (429, "too_many_attempts")


def test_a_viewer_may_not_change_anything_and_is_told_so_as_described(closed: Mapping[str, Caller]) -> None:
    viewer = closed[VIEWER]
    for method, operation in (("POST", "allow"), ("DELETE", "endException")):
        url = f"{viewer.console.url}/api/v1/exceptions"
        response = requests.request(method, url, cookies=dict(viewer.cookies), json={}, timeout=10)
        assert (response.status_code, response.json()["error"]["code"]) == (403, "not_an_administrator")
        schema.find_operation_by_id(operation).validate_response(response)


@pytest.mark.parametrize(("rules", "status"), [("default: frozen\n", 200), ("default: never\n", 422)])
def test_a_trial_answers_as_described(filled: RunningConsole, rules: str, status: int) -> None:
    url = f"{filled.url}/api/v1/rules/simulate"
    response = requests.post(url, data=rules, headers={"Content-Type": "application/yaml"}, timeout=30)
    assert response.status_code == status
    assert len(response.json()["differences" if status == 200 else "problems"]) == 1
    schema.find_operation_by_id("simulate").validate_response(response)


def test_a_body_that_is_too_large_is_refused_as_described(filled: RunningConsole) -> None:
    url = f"{filled.url}/api/v1/rules/simulate"
    response = requests.post(url, data=b" " * (LARGEST_BODY + 1), headers={"Content-Type": "text/yaml"}, timeout=10)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
    schema.find_operation_by_id("simulate").validate_response(response)


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
