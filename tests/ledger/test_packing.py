"""How stored manifests lie in Redis, and that none is lost that older releases wrote."""

from __future__ import annotations

import hashlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immuproxy.ledger.model import StoredManifest
from immuproxy.ledger.packing import DICTIONARY, FORM, LARGEST, packed, unpacked
from immuproxy.oci.manifests import OCI_MANIFEST

DIGEST = "sha256:" + "0" * 64


def digest(number: object) -> str:
    return f"sha256:{hashlib.sha256(repr(number).encode()).hexdigest()}"


def manifest(**written: object) -> StoredManifest:
    """Of an image with ten layers, as json writes it."""
    layers = [
        {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": 31_000_000 + n, "digest": digest(n)}
        for n in range(10)
    ]
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 4321, "digest": digest("config")}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    return StoredManifest(DIGEST, OCI_MANIFEST, json.dumps(document, **written).encode())  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [{"indent": 3}, {"separators": (",", ":")}, {"indent": 2}])
def test_a_manifest_takes_little_more_than_the_digests_it_names(written: dict[str, object]) -> None:
    """Eleven of 32 bytes cannot be made shorter."""
    stored = manifest(**written)
    assert unpacked(DIGEST, packed(stored)) == stored
    assert 11 * 32 < len(packed(stored)) < 11 * 32 + 220


@given(st.binary(max_size=3000), st.text(st.characters(exclude_characters="\n", codec="ascii"), min_size=1))
def test_whatever_was_stored_comes_back(body: bytes, media_type: str) -> None:
    if media_type.startswith("\x01"):
        return
    stored = StoredManifest(DIGEST, media_type, body)
    value = packed(stored)
    assert unpacked(DIGEST, value) == stored
    assert len(value) <= len(media_type) + 1 + len(body)


def test_what_older_releases_wrote_is_read() -> None:
    stored = manifest()
    assert unpacked(DIGEST, stored.media_type.encode() + b"\n" + stored.body) == stored


def test_what_was_written_with_this_dictionary_stays_readable() -> None:
    assert hashlib.sha256(DICTIONARY).hexdigest() == "dc8e0412c76d4bd6186c0fccc7303493627a833e9d82ca699c0c74b54e59c4f8"


@pytest.mark.parametrize("size", [LARGEST - 200, LARGEST, LARGEST * 8])
def test_of_a_large_one_the_value_is_as_long_as_the_manifest(size: int) -> None:
    """However well it could be compressed: what a look at it costs is weighed by that (H86)."""
    stored = StoredManifest(DIGEST, OCI_MANIFEST, b" " * size)
    value = packed(stored)
    assert unpacked(DIGEST, value) == stored
    assert size < LARGEST - 100 or len(value) > size


@pytest.mark.parametrize("damage", ["cut", "changed", "later release", "no media type"])
def test_what_is_damaged_is_no_copy(damage: str) -> None:
    value = packed(manifest())
    changed = bytearray(value)
    changed[random.Random(1).randrange(20, len(value))] ^= 0xFF
    values = {
        "cut": value[:-3],
        "changed": bytes(changed),
        "later release": FORM + b"?",
        "no media type": b"\xff\xfe\n{}",
    }
    assert unpacked(DIGEST, values[damage]) is None
