#!/usr/bin/env python3
"""Push a tiny image without a container client, to try the proxy with: tools/push.py HOST:PORT/REPOSITORY:TAG TEXT.

The image holds one file with the text; another text is another image.  Needs nothing but Python.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urljoin

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


def main(arguments: list[str]) -> int:
    try:
        image, text = arguments
        host, rest = image.split("/", 1)
        repository, tag = rest.rsplit(":", 1)
    except ValueError:
        print("usage: tools/push.py HOST:PORT/REPOSITORY:TAG TEXT", file=sys.stderr)
        return 2
    try:
        digest = push(f"http://{host}", repository, tag, text)
    except urllib.error.HTTPError as refusal:
        print(f"refused: {refusal.code} {_message(refusal.read())}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot push to {host}: {error}", file=sys.stderr)
        return 1
    print(f"pushed {image}: {digest}")
    return 0


def push(base: str, repository: str, tag: str, text: str) -> str:
    """Layer, configuration, manifest; the digest that the tag has now."""
    layer = _layer(text)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    config_bytes = json.dumps(config).encode()
    for blob in (layer, config_bytes):
        _push_blob(base, repository, blob)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(CONFIG_TYPE, config_bytes),
        "layers": [_descriptor(LAYER_TYPE, layer)],
    }
    body = json.dumps(manifest).encode()
    _ask("PUT", f"{base}/v2/{repository}/manifests/{tag}", body, {"Content-Type": MANIFEST_TYPE})
    return _digest(body)


def _layer(text: str) -> bytes:
    content = text.encode()
    entry = tarfile.TarInfo("text")
    entry.size = len(content)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _push_blob(base: str, repository: str, blob: bytes) -> None:
    start = f"{base}/v2/{repository}/blobs/uploads/"
    location = urljoin(start, _ask("POST", start, b"", {})["Location"])
    separator = "&" if "?" in location else "?"
    target = f"{location}{separator}digest={_digest(blob)}"
    _ask("PUT", target, blob, {"Content-Type": "application/octet-stream"})


def _ask(method: str, url: str, body: bytes, headers: dict[str, str]) -> Mapping[str, str]:
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        return answer.headers  # type: ignore[no-any-return]


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _descriptor(media_type: str, content: bytes) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _message(body: bytes) -> str:
    """The messages of an OCI error, or the body as it came."""
    try:
        return "; ".join(f"{error['code']}: {error['message']}" for error in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
