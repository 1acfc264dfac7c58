"""A client that puts images into a registry, directly or through a proxy, before anything is timed."""

from __future__ import annotations

import urllib.request
from email.message import Message
from urllib.error import HTTPError
from urllib.parse import urljoin

from tests.support.conversation import Image, sha256


def push(url: str, repository: str, tag: str, image: Image) -> None:
    """Blobs and manifest; raises `HTTPError` where one is refused."""
    for blob in image.blobs:
        upload(url, repository, blob)
    put(url, repository, tag, image)


def upload(url: str, repository: str, blob: bytes) -> None:
    _ask("PUT", upload_address(url, repository, sha256(blob)), blob, "application/octet-stream")


def upload_address(url: str, repository: str, digest: str) -> str:
    """Begin an upload; the address to PUT the blob to."""
    begun = _ask("POST", f"{url}/v2/{repository}/blobs/uploads/", b"", "application/octet-stream")
    place: str = begun["Location"]
    return urljoin(url, place) + ("&" if "?" in place else "?") + f"digest={digest}"


def put(url: str, repository: str, reference: str, image: Image) -> None:
    _ask("PUT", f"{url}/v2/{repository}/manifests/{reference}", image.body, image.media_type)


def is_refused(url: str, repository: str, tag: str, image: Image) -> bool:
    """Whether a push is answered 409."""
    try:
        put(url, repository, tag, image)
    except HTTPError as error:
        return error.code == 409
    return False


def _ask(method: str, address: str, body: bytes, media_type: str) -> Message:
    """The headers of the answer."""
    request = urllib.request.Request(address, body, {"Content-Type": media_type}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        headers: Message = answer.headers
        return headers
