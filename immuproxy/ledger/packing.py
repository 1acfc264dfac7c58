"""How the bytes of a manifest lie in Redis: small ones compressed, as each tag keeps one and they are alike.  Pure.

Two forms, told apart by their first byte, which no media type has: ``media type, line feed, raw bytes``, and behind
`FORM` the same compressed (zlib, RFC 1950) with `DICTIONARY`.  The first one is what older releases wrote, and what is
written where the second is no shorter.  Of the raw bytes nothing changes: their digest is what everybody checks (H17).
"""

from __future__ import annotations

import zlib

from immuproxy.ledger.model import StoredManifest

FORM = b"\x01"
"""Names the dictionary, too: another one takes another byte, and this one stays for what was written with it."""

LARGEST = 64 * 1024
"""Bytes of a manifest that is compressed: how much a larger one costs to read is told by how long its value is."""

DICTIONARY = b"".join(
    part.encode()
    for media in ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
    for part in (
        '{"annotations":{"org.opencontainers.image.created":"2026-01-01T00:00:00Z",',
        '"org.opencontainers.image.revision":"',
        '","org.opencontainers.image.source":"https://github.com/","org.opencontainers.image.version":"1.0.0"},',
        '"platform":{"architecture":"arm64","os":"linux","variant":"v8"}},',
        '{"mediaType":"application/vnd.oci.image.index.v1+json"',
        '"platform":{"architecture":"amd64","os":"linux"}},"artifactType":"application/vnd.in-toto+json","subject":{',
        '"annotations":{"vnd.docker.reference.digest":"sha256:","vnd.docker.reference.type":"attestation-manifest"},',
        '      "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",\n         "size": ',
        ',\n         "digest": "sha256:',
        '"\n      },\n      {\n         "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",',
        '\n         "digest": "sha256:',
        '",\n         "size": ',
        f'{media}\n{{\n   "schemaVersion": 2,\n   "mediaType": "{media}",\n   "config": {{\n      "mediaType": "',
        'application/vnd.docker.container.image.v1+json",\n      "size": ',
        ',\n      "digest": "sha256:',
        '"\n   },\n   "layers": [\n      {\n',
        f'{media}\n{{"schemaVersion":2,"mediaType":"{media}",',
        '"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:","size":},',
        '"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","digest":"sha256:',
        '","size":},{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:","size":}]}',
    )
)
"""What manifests have in common, compact as BuildKit and indented as Docker write them; the most usual comes last,
where it costs the least.  It never changes: what was written with it could not be read any more.
"""


def packed(manifest: StoredManifest) -> bytes:
    """A stored manifest as one value."""
    plain = manifest.media_type.encode() + b"\n" + manifest.body
    if len(plain) > LARGEST:
        return plain
    compressor = zlib.compressobj(level=9, zdict=DICTIONARY)
    small = FORM + compressor.compress(plain) + compressor.flush()
    return min(small, plain, key=len)


def unpacked(digest: str, value: bytes) -> StoredManifest | None:
    """The inverse of `packed`; None for a value that is damaged, or of a later release."""
    try:
        media_type, _, body = _plain(value).partition(b"\n")
        return StoredManifest(digest, media_type.decode(), body)
    except (zlib.error, EOFError, UnicodeDecodeError):
        return None


def _plain(value: bytes) -> bytes:
    if not value.startswith(FORM):
        return value
    decompressor = zlib.decompressobj(zdict=DICTIONARY)
    plain = decompressor.decompress(value[1:], LARGEST)
    if not decompressor.eof:
        raise EOFError
    return plain
