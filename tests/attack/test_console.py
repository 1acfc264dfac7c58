"""The console: whatever is typed, forged or spelt oddly shows nothing, changes nothing and breaks nothing."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import bcrypt
import pytest

from tests.attack.arena import REPOSITORY, SECRET, Arena, arena, held, with_secret
from tests.support.wire import WireAnswer, request

V1 = held()["v1"]
MARKUP = '"><script>alert(1)</script>'


def get(target: str, *headers: tuple[str, str], host: str = "console:8080") -> bytes:
    return request("GET", target, headers, host=host)


def is_guarded(answer: WireAnswer) -> bool:
    """The headers that keep a browser from running what does not belong to the page."""
    policy = answer.header("Content-Security-Policy") or ""
    return "default-src 'none'" in policy and answer.header("X-Content-Type-Options") == "nosniff"


async def unharmed(arena: Arena, answer: WireAnswer) -> None:
    assert answer.status < 500, answer
    is_page = (answer.header("Content-Type") or "").startswith("text/html")
    assert not (is_page and b"<script>alert" in answer.body)
    assert SECRET.encode() not in answer.body
    assert (await arena.console(get("/healthz"))).status == 200
    arena.storage_is_whole()
    arena.log_is_clean()


NOWHERE = {
    "static-dots": "/static/../app.py",
    "static-escaped-dots": "/static/..%2f..%2fapp.py",
    "static-dots-escaped-twice": "/static/%252e%252e%252fapp.py",
    "static-absolute": "/static//etc/passwd",
    "static-absolute-escaped": "/static/%2fetc%2fpasswd",
    "static-null": "/static/base.css%00.py",
    "static-backslash": "/static/..%5capp.py",
    "static-folder": "/static/",
    "static-source": "/static/__init__.py",
    "template": "/templates/base.html",
    "dots": "/../../etc/passwd",
    "double-slash": "//audit",
    "api-of-tomorrow": "/api/v2/events",
    "debug": "/debug/pprof/",
    "environment": "/.env",
    "git": "/.git/config",
    "registry-api": f"/v2/{REPOSITORY}/manifests/v1",
    "event-unknown": "/events/nonsense",
    "event-dots": "/events/..%2faudit",
    "event-of-markup": f"/events/{quote(MARKUP, safe='')}",
    "event-null": "/events/%00",
    "event-very-long": "/events/" + "x" * 5000,
    "api-event-unknown": "/api/v1/events/nonsense",
    "repository-unknown": "/repositories/nobody/knows",
    "repository-in-capitals": "/repositories/PROD",
    "repository-of-markup": f"/repositories/{quote(MARKUP, safe='')}",
    "repository-braces": "/repositories/%7Baudit%7D",
    "repository-dots": "/repositories/..%2f..%2fetc",
    "tag-null": f"/repositories/{REPOSITORY}/tags/v1%00",
    "tag-newline": f"/repositories/{REPOSITORY}/tags/v1%0a",
    "tag-slash": f"/repositories/{REPOSITORY}/tags/v1/",
    "tag-not-utf-8": f"/repositories/{REPOSITORY}/tags/%ff",
    "manifest-unknown": f"/repositories/{REPOSITORY}/manifests/sha256:{'0' * 64}",
    "manifest-no-digest": f"/repositories/{REPOSITORY}/manifests/v1",
    "api-repository-unknown": "/api/v1/repositories/nobody/knows",
}


@pytest.mark.parametrize("name", NOWHERE)
async def test_a_path_to_nowhere_leads_nowhere(target: Arena, name: str) -> None:
    answer = await target.console(get(NOWHERE[name]))
    assert answer.status in {400, 404}, answer
    assert is_guarded(answer)
    await unharmed(target, answer)


WRONG = {
    "q-of-markup": f"/audit?q={quote(MARKUP)}",
    "q-key-of-markup": f"/audit?q=x%3A{quote(MARKUP)}",
    "q-without-quote": "/audit?q=%22abc",
    "q-very-long": "/audit?q=" + "a" * 3000,
    "q-many-terms": "/audit?q=" + "+".join(f"a{n}" for n in range(40)),
    "q-null": "/audit?q=%00",
    "q-not-utf-8": "/audit?q=%ff%fe",
    "q-surrogate": "/audit?q=%ed%a0%80",
    "q-stars": "/audit?q=repo:" + "*" * 500,
    "q-stars-between": "/audit?q=tag:" + "a*" * 200,
    "q-text-of-stars": "/audit?q=" + "*a" * 500,
    "q-network-of-all": "/audit?q=ip:::/0",
    "q-network-wrong": "/audit?q=ip:10.0.0.0/99",
    "q-network-of-bits": "/audit?q=ip:10.0.0.1/8",
    "q-digits": "/audit?q=since:" + "9" * 300 + "d",
    "q-other-digits": "/audit?q=since:%D9%A1d",
    "q-date-before-time": "/audit?q=since:0000-00-00",
    "q-date-far": "/audit?q=since:9999-12-31T23:59Z",
    "q-date-of-offsets": "/audit?q=since:2026-01-01T00:00%2B99:99",
    "q-twice": "/audit?q=tag:v1&q=tag:v2",
    "until-before-since": "/audit?q=since:1d+until:2d",
    "limit-zero": "/api/v1/events?limit=0",
    "limit-negative": "/api/v1/events?limit=-1",
    "limit-huge": "/api/v1/events?limit=" + "9" * 30,
    "limit-text": "/api/v1/events?limit=ten",
    "limit-other-digits": "/api/v1/events?limit=%D9%A3",
    "limit-exponent": "/api/v1/events?limit=1e3",
    "cursor-nonsense": "/api/v1/events?cursor=nonsense",
    "cursor-of-markup": f"/api/v1/events?cursor={quote(MARKUP)}",
    "cursor-huge": "/api/v1/events?cursor=" + "9" * 400,
    "cursor-negative": "/api/v1/events?cursor=-1--1",
    "cursor-of-redis": "/api/v1/events?cursor=%2B",
    "cursor-largest": "/api/v1/events?cursor=18446744073709551615-18446744073709551615",
    "cursor-null": "/api/v1/events?cursor=%00",
    "parameter-unknown": "/api/v1/events?reposittory=x",
    "parameter-of-markup": f"/api/v1/events?{quote(MARKUP)}=x",
    "filter-empty": "/api/v1/events?repository=",
    "filter-null": "/api/v1/events?repository=%00",
    "filter-often": "/api/v1/events?" + "&".join(f"tag=t{n}" for n in range(2000)),
    "outcome-unknown": "/api/v1/events?outcome=excellent",
    "live-bad-cursor": "/api/v1/live?after=nonsense",
    "live-bad-shape": "/api/v1/live?as=xml",
    "compare-nothing": "/compare?a=&b=",
    "compare-markup": f"/compare?a={quote(MARKUP)}&b={quote(MARKUP)}",
    "compare-unknown": f"/compare?a={REPOSITORY}:nobody&b={REPOSITORY}:nowhere",
    "compare-with-itself": f"/api/v1/compare?a={REPOSITORY}:v1&b={REPOSITORY}:v1",
    "compare-very-long": "/compare?a=" + "a" * 9000 + "&b=c",
    "explain-markup": f"/api/v1/rules/explain?tag={quote(MARKUP)}",
    "explain-nothing": "/api/v1/rules/explain",
    "complete-far": "/api/v1/complete?q=repo:&at=999999",
    "complete-negative": "/api/v1/complete?q=repo:&at=-1",
    "complete-markup": f"/api/v1/complete?q={quote('actor:' + MARKUP)}",
    "range-unknown": "/?range=ever",
    "range-of-a-thousand-years": "/?since=1026-01-01",
    "repositories-filter": "/repositories?filter=" + quote("(" * 300),
    "tags-order": f"/repositories/{REPOSITORY}?order=random",
    "tags-state": f"/repositories/{REPOSITORY}?state=gone",
    "drift-cursor": "/drift?cursor=nonsense",
    "exceptions-cursor": "/exceptions?cursor=nonsense",
    "metrics-accept": "/metrics?x=" + "y" * 1000,
}


@pytest.mark.parametrize("name", WRONG)
async def test_what_makes_no_sense_is_answered_in_words(target: Arena, name: str) -> None:
    answer = await target.console(get(WRONG[name]))
    assert answer.status in {200, 400, 404}, answer
    assert is_guarded(answer)
    await unharmed(target, answer)


METHODS = ["PUT", "DELETE", "PATCH", "POST", "TRACE", "PROPFIND", "FOO"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/", "/audit", "/api/v1/events", f"/repositories/{REPOSITORY}/tags/v1"])
async def test_nothing_but_reading_is_offered(target: Arena, method: str, path: str) -> None:
    answer = await target.console(request(method, path, body=b"x=y"))
    assert answer.status in {400, 404, 405}, answer
    await unharmed(target, answer)


FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
GRANT = {"tag": f"{REPOSITORY}:v1", "for": "1h", "reason": "because"}
CHANGES: dict[str, bytes] = {
    "grant-json": request("POST", "/api/v1/exceptions", [JSON], json.dumps(GRANT).encode()),
    "grant-form": request("POST", "/exceptions", [FORM], f"tag={REPOSITORY}:v1&for=1h&reason=x".encode()),
    "grant-text": request("POST", "/api/v1/exceptions", [("Content-Type", "text/plain")], json.dumps(GRANT).encode()),
    "grant-as-admin": request("POST", "/api/v1/exceptions", [JSON, ("X-Forwarded-User", "admin")], b"{}"),
    "grant-nested": request("POST", "/api/v1/exceptions", [JSON], b"[" * 100_000),
    "grant-parts": request(
        "POST", "/exceptions", [("Content-Type", "multipart/form-data; boundary=x")], b"--x\r\n\r\ny\r\n--x--\r\n"
    ),
    "end": request("POST", "/exceptions/end", [FORM], f"tag={REPOSITORY}:v1".encode()),
    "log-in": request("POST", "/log-in", [FORM], f"user=admin&password={SECRET}".encode()),
    "log-out": request("POST", "/log-out", [FORM], b""),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_an_open_console_lets_nobody_change_anything(target: Arena, name: str) -> None:
    answer = await target.console(CHANGES[name])
    assert answer.status in {400, 403, 404, 405, 415}, answer
    assert not (await target.api("exceptions"))["exceptions"]
    await unharmed(target, answer)


ATTACKED = Path("/tmp/attacked")
YAML = ("Content-Type", "application/yaml")
BOMB = "a: &a [x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 8)}]\n" for before, after in itertools.pairwise("abcdefghi")
)
FILES: dict[str, bytes] = {
    "bomb": BOMB.encode(),
    "python-object": b"default: !!python/object/apply:os.system ['touch /tmp/attacked']\n",
    "merge-key": b"<<: {default: mutable}\ndefault: frozen\n",
    "alias-of-itself": b"rules: &r [*r]\n",
    "nested": b"rules: " + b"[" * 5000,
    "two-documents": b"default: mutable\n---\ndefault: frozen\n",
    "nothing": b"   \n",
    "binary": bytes(range(256)) * 10,
    "utf-16": "default: mutable\n".encode("utf-16"),
    "null": b"default: mutable\0\n",
    "expression-of-repetitions": b'rules: [{name: x, tags: ["re:((a{1,1000}){1,1000}){1,1000}"], policy: mutable}]\n',
    "expression-of-braces": b'rules: [{name: x, tags: ["re:(((((a*)*)*)*)*)*b"], policy: mutable}]\n',
    "name-of-markup": f"rules: [{{name: {json.dumps(MARKUP)}, policy: nonsense}}]\n".encode(),
    "semver-of-digits": b'rules: [{name: x, tags: ["semver:>=' + b"9" * 5000 + b'.0.0"], policy: mutable}]\n',
    "many-rules": b"rules:\n" + b"".join(b"  - {name: r%d, policy: mutable}\n" % n for n in range(3000)),
    "same-key-twice": b"default: mutable\ndefault: frozen\n",
    "other-files": b"include: [{files: /etc/*, within: ['**']}]\n",
    "redis-of-others": b"redis: {url: 'redis://127.0.0.1:1/0'}\ndefault: mutable\n",
}


@pytest.mark.parametrize("name", FILES)
async def test_a_file_on_trial_is_read_and_nothing_else(target: Arena, name: str) -> None:
    raw = request("POST", "/api/v1/rules/simulate", [YAML], FILES[name])
    answer = await target.console(raw, seconds=30)
    assert answer.status in {200, 400, 413, 422}, answer
    assert not ATTACKED.exists()  # noqa: ASYNC240  # one look
    await unharmed(target, answer)


HOSTS = ["evil.example", "<script>", "console:8080@evil.example", "", "a" * 300, "127.0.0.1:99999", "[::1", "a b"]


@pytest.mark.parametrize("host", HOSTS)
async def test_a_host_that_the_client_makes_up_is_put_into_no_link(target: Arena, host: str) -> None:
    answer = await target.console(get("/audit", host=host))
    assert answer.status in {200, 400, 421}
    assert not host or host.encode() not in answer.body
    assert "evil" not in (answer.header("Location") or "")
    await unharmed(target, answer)


# --- a closed console


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    users = tmp_path_factory.mktemp("console") / "users"
    users.write_text(f"admin:{bcrypt.hashpw(b'open sesame', bcrypt.gensalt(4)).decode()}\n")
    auth = {"users_file": str(users), "administrators": ["admin"], "metrics": "closed"}
    with arena(more={"console": {"auth": auth}}) as standing:
        basic = base64.b64encode(b"admin:open sesame").decode()
        standing.console_credentials = {"Authorization": f"Basic {basic}"}
        asyncio.run(standing.prepare())
        yield standing
        asyncio.run(standing.aftermath())


PLACES = [
    *("/", "/audit", "/repositories", f"/repositories/{REPOSITORY}", f"/repositories/{REPOSITORY}/tags/v1", "/drift"),
    *("/rules", "/rules/what-if", "/exceptions", "/compare", "/metrics", "/events/x", "/nowhere", "/static/../audit"),
    *("/api/v1/events", "/api/v1/events.csv", "/api/v1/events.jsonl", "/api/v1/live", "/api/v1/overview"),
    *("/api/v1/repositories", "/api/v1/rules", "/api/v1/status", "/api/v1/drift", "/api/v1/exceptions"),
    *("/api/v1/openapi.json", "/api/v1/viewer", "/api/v1/complete?q=repo:", "//api/v1/events", "/%61udit", "/audit/"),
    *("/healthz/../audit", "/healthz/%2e%2e/audit", "/log-in/../audit", "/static/x/../../audit", "/AUDIT", "/readyz/"),
]


@pytest.mark.parametrize("path", PLACES)
async def test_a_closed_console_shows_nothing_to_strangers(closed: Arena, path: str) -> None:
    answer = await closed.console(get(path))
    assert answer.status in {303, 401, 404}, answer
    assert V1.digest.encode() not in answer.body
    assert REPOSITORY.encode() not in answer.body
    await unharmed(closed, answer)


KEYS: dict[str, list[tuple[str, str]]] = {
    "basic-wrong": [("Authorization", with_secret("admin"))],
    "basic-empty": [("Authorization", "Basic ")],
    "basic-no-colon": [("Authorization", "Basic YWRtaW4=")],
    "basic-twice": [("Authorization", with_secret("admin"))] * 2,
    "basic-null": [("Authorization", "Basic " + base64.b64encode(b"admin\0:open sesame").decode())],
    "basic-longer": [("Authorization", "Basic " + base64.b64encode(b"admin:open sesame" + b"x" * 80).decode())],
    "bearer": [("Authorization", f"Bearer {SECRET}")],
    "cookie-nonsense": [("Cookie", f"immuproxy_session={SECRET}")],
    "cookie-empty": [("Cookie", "immuproxy_session=")],
    "cookie-star": [("Cookie", "immuproxy_session=*")],
    "cookie-of-a-key": [("Cookie", "immuproxy_session=../../{console}:key")],
    "cookie-quoted": [("Cookie", 'immuproxy_session="\\000"')],
    "cookies-many": [("Cookie", "; ".join(f"a{n}=b" for n in range(2000)))],
    "identity-header": [("X-Forwarded-User", "admin"), ("X-Remote-User", "admin"), ("Remote-User", "admin")],
    "from-loopback": [("X-Forwarded-For", "127.0.0.1")],
    "as-page-of-its-own": [("Sec-Fetch-Site", "same-origin"), ("Origin", "http://console:8080")],
}


@pytest.mark.parametrize("name", KEYS)
async def test_a_wrong_key_opens_no_closed_console(closed: Arena, name: str) -> None:
    answer = await closed.console(get("/api/v1/events", *KEYS[name]))
    assert answer.status in {400, 401, 429}, answer
    assert V1.digest.encode() not in answer.body
    await unharmed(closed, answer)


RETURNS = ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/%0d%0aSet-Cookie:x=y"]


@pytest.mark.parametrize("there", RETURNS)
async def test_a_log_in_leads_to_no_other_place(closed: Arena, there: str) -> None:
    page = await closed.console(get(f"/log-in?next={quote(there, safe='')}"))
    assert b"evil.example" not in page.body
    assert b"javascript:" not in page.body
    body = f"user=admin&password=open+sesame&next={quote(there, safe='')}".encode()
    answer = await closed.console(request("POST", "/log-in", [FORM, ("Origin", "http://edge:5000")], body))
    location = answer.header("Location") or "/"
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert "\n" not in location
    await unharmed(closed, answer)


FORGED: dict[str, list[tuple[str, str]]] = {
    "other-origin": [("Origin", "http://evil.example")],
    "null-origin": [("Origin", "null")],
    "origin-of-a-prefix": [("Origin", "http://edge:5000.evil.example")],
    "origin-of-a-suffix": [("Origin", "http://evil-edge:5000")],
    "cross-site": [("Sec-Fetch-Site", "cross-site")],
    "same-site": [("Sec-Fetch-Site", "same-site")],
    "two-sites": [("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")],
    "two-origins": [("Origin", "http://edge:5000"), ("Origin", "http://evil.example")],
}


@pytest.mark.parametrize(("way", "name"), [*itertools.product(["json", "form"], FORGED), ("form", "from-nowhere")])
async def test_another_site_grants_nothing_through_a_browser(closed: Arena, way: str, name: str) -> None:
    key = [("Authorization", closed.console_credentials["Authorization"])]
    said = FORGED.get(name, [])
    if way == "json":
        raw = request("POST", "/api/v1/exceptions", [JSON, *key, *said], json.dumps(GRANT).encode())
    else:
        fields = f"tag={REPOSITORY}:v1&for=1h&reason=x".encode()
        raw = request("POST", "/exceptions", [FORM, *key, *said], fields)
    answer = await closed.console(raw)
    assert answer.status == 403, answer
    assert not (await closed.api("exceptions"))["exceptions"]
    await unharmed(closed, answer)


BODIES = {
    "an-array": b"[]",
    "a-number": b"1",
    "nested": b"[" * 20_000,
    "not-utf-8": b"\xff",
    "null-tag": b'{"tag":null,"for":"1h","reason":"x"}',
    "number-tag": b'{"tag":1,"for":"1h","reason":"x"}',
    "tag-of-markup": json.dumps(GRANT | {"tag": MARKUP}).encode(),
    "tag-with-host": json.dumps(GRANT | {"tag": f"edge:5000/{REPOSITORY}:v1"}).encode(),
    "tag-by-digest": json.dumps(GRANT | {"tag": f"{REPOSITORY}@{V1.digest}"}).encode(),
    "for-ever": json.dumps(GRANT | {"for": "9" * 400 + "d"}).encode(),
    "for-negative": json.dumps(GRANT | {"for": "-1h"}).encode(),
    "for-nothing": json.dumps(GRANT | {"for": "0s"}).encode(),
    "for-a-number": json.dumps(GRANT | {"for": 3600}).encode(),
    "reason-of-newlines": json.dumps(GRANT | {"reason": "x\r\ny"}).encode(),
    "reason-empty": json.dumps(GRANT | {"reason": " "}).encode(),
    "reason-very-long": json.dumps(GRANT | {"reason": "x" * 5000}).encode(),
    "reason-surrogate": b'{"tag":"prod/app:v1","for":"1h","reason":"\\ud800"}',
    "digest-wrong": json.dumps(GRANT | {"digest": "sha256:x"}).encode(),
    "key-unknown": json.dumps(GRANT | {"forever": True}).encode(),
    "keys-twice": b'{"tag":"prod/app:v2","tag":"prod/app:v1","for":"1h","reason":""}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_an_administrator_grants_only_what_makes_sense(closed: Arena, name: str) -> None:
    sent = [JSON, ("Authorization", closed.console_credentials["Authorization"])]
    answer = await closed.console(request("POST", "/api/v1/exceptions", sent, BODIES[name]))
    assert 400 <= answer.status < 500, answer
    assert not (await closed.api("exceptions"))["exceptions"]
    await unharmed(closed, answer)
