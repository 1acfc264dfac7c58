"""The error answer of the specification."""

from __future__ import annotations

import json

import pytest

from immuproxy.oci import errors
from immuproxy.oci.errors import OciError

CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DENIED",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "TOOMANYREQUESTS",
    "UNAUTHORIZED",
    "UNAVAILABLE",
    "UNSUPPORTED",
}

MADE = [
    (errors.bad_target("m"), 400),
    (errors.bad_name("m"), 400),
    (errors.bad_tag("m"), 400),
    (errors.bad_digest("m"), 400),
    (errors.bad_manifest("m"), 400),
    (errors.too_large(10), 413),
    (errors.unsupported_media_type("m"), 415),
    (errors.method_not_allowed("POST", ("GET", "HEAD")), 405),
    (errors.not_found("m"), 404),
    (errors.unavailable("m"), 503),
    (errors.bad_body("m"), 400),
    (errors.too_slow("m"), 408),
    (errors.blob_unknown("sha256:0"), 400),
]


@pytest.mark.parametrize(("problem", "status"), MADE)
def test_every_error_is_the_specifications_json(problem: OciError, status: int) -> None:
    assert problem.status == status
    (error,) = json.loads(problem.body())["errors"]
    assert error["code"] in CODES
    assert error["message"] == problem.message == str(problem)
    assert "\n" not in error["message"]


@pytest.mark.parametrize(("problem", "status"), MADE)
def test_h78_no_code_makes_a_client_try_other_formats_or_loop(problem: OciError, status: int) -> None:
    assert problem.code not in {"TAG_INVALID", "MANIFEST_INVALID", "UNKNOWN", "TOOMANYREQUESTS", "BLOB_UPLOAD_INVALID"}


def test_h78_a_detail_is_shown_only_where_there_is_one() -> None:
    plain = OciError(409, "DENIED", "no")
    assert json.loads(plain.body()) == {"errors": [{"code": "DENIED", "message": "no"}]}
    told = OciError(409, "DENIED", "no", detail={"tag": "v1", "first_pushed_by": None})
    assert json.loads(told.body())["errors"][0]["detail"] == {"tag": "v1", "first_pushed_by": None}


def test_any_text_can_be_said() -> None:
    assert json.loads(OciError(400, "UNSUPPORTED", 'a "quoted" \udcff é').body())["errors"][0]["message"].endswith("é")


def test_the_headers_say_what_to_do_next() -> None:
    assert errors.method_not_allowed("POST", ("GET", "HEAD")).headers == {"Allow": "GET, HEAD"}
    assert errors.unavailable("m").headers == {"Retry-After": "5"}
    assert errors.unavailable("m", retry_after=30).headers == {"Retry-After": "30"}
    assert errors.bad_target("m").headers == {}
