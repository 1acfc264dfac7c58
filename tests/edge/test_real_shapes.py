"""What tools push is taken for a protected tag where the registry takes it, the first time and again (H14, H93)."""

from __future__ import annotations

import json
from typing import Any

from immuproxy.ledger import keys
from immuproxy.oci.manifests import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from tests.support.conversation import Image, RunningEdge, image, sha256

REPOSITORY, ELSEWHERE = "team/app", "other/app"
EMPTY = b"{}"
"""Image specification, "Guidance for an Empty Descriptor"."""

CONFIG, LAYER, OTHER = b'{"architecture":"amd64","os":"linux"}', b"a layer", b"another layer"
CHILD = image("child")
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
AWAY = {"urls": ["https://example.com/layer"]}


def of(blob: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(blob), "size": len(blob), **more}


def oci(config: dict[str, Any], *layers: dict[str, Any], **more: Any) -> Image:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": list(layers), **more}
    return Image(json.dumps(document).encode(), OCI_MANIFEST)


def docker(*layers: dict[str, Any]) -> Image:
    document = {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": of(CONFIG, DOCKER_CONFIG)}
    return Image(json.dumps(document | {"layers": list(layers)}).encode(), DOCKER_MANIFEST)


def listing(*children: Image | tuple[Image, dict[str, Any]], media_type: str = OCI_INDEX, **more: Any) -> Image:
    listed = [entry(*child) if isinstance(child, tuple) else entry(child) for child in children]
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": listed, **more}
    return Image(json.dumps(document).encode(), media_type)


def entry(child: Image, more: dict[str, Any] | None = None) -> dict[str, Any]:
    platform = {"platform": {"os": "linux", "architecture": "amd64"}}
    return {"mediaType": child.media_type, "digest": child.digest, "size": len(child.body), **platform, **(more or {})}


def untyped(pushed: Image) -> Image:
    """Without `mediaType`, which the image specification wants no more than it should be there."""
    document = json.loads(pushed.body)
    del document["mediaType"]
    return Image(json.dumps(document).encode(), pushed.media_type)


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"
CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
IMAGE_CONFIG = of(CONFIG, "application/vnd.oci.image.config.v1+json")
HELM_CONFIG = of(CONFIG, "application/vnd.cncf.helm.config.v1+json")
NO_CONFIG = of(EMPTY, "application/vnd.oci.empty.v1+json", data="e30=")
CHUNKED = {"io.github.containers.zstd-chunked.manifest-position": "1:2:3:1"}
TITLES = [{"org.opencontainers.image.title": f"{number}.txt"} for number in range(3000)]
BASE = {"org.opencontainers.image.base.digest": sha256(b"a base image")}
PREDICATE = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
ATTESTATION = oci(IMAGE_CONFIG, of(OTHER, "application/vnd.in-toto+json", annotations=PREDICATE))
ATTESTS = {
    "platform": {"os": "unknown", "architecture": "unknown"},
    "annotations": {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": CHILD.digest},
}
INDEX = listing(CHILD)

SHAPES = {
    "docker": docker(of(LAYER, DOCKER_LAYER)),
    "docker, a foreign layer": docker(of(b"windows", FOREIGN, **AWAY)),
    "docker, a foreign layer that is here": docker(of(LAYER, FOREIGN, **AWAY)),
    "docker, a foreign layer without urls": docker(of(b"windows", FOREIGN)),
    "docker, urls of a layer that is here": docker(of(LAYER, DOCKER_LAYER, **AWAY)),
    "docker, urls of a layer that is not": docker(of(b"away", DOCKER_LAYER, **AWAY)),
    "oci, a nondistributable layer": oci(IMAGE_CONFIG, of(b"away", OCI_FOREIGN, **AWAY)),
    "oci, urls of a layer that is not here": oci(IMAGE_CONFIG, of(b"away", OCI_LAYER, **AWAY)),
    "oci, zstd": oci(IMAGE_CONFIG, of(LAYER, f"{OCI_LAYER}+zstd", annotations=CHUNKED)),
    "oci without a type": untyped(oci(IMAGE_CONFIG, of(LAYER, OCI_LAYER))),
    "oci without a type, an artifact": untyped(oci(NO_CONFIG, of(LAYER, "text/plain"), artifactType="text/x")),
    "oci, a config without a type": oci({"digest": sha256(CONFIG), "size": len(CONFIG)}, of(LAYER, OCI_LAYER)),
    "wasm": oci(of(CONFIG, "application/vnd.wasm.config.v0+json"), of(LAYER, "application/wasm")),
    "helm": oci(HELM_CONFIG, of(LAYER, CHART), annotations={"org.opencontainers.image.title": "c"}),
    "an artifact that is all config": oci(NO_CONFIG, NO_CONFIG, artifactType="application/vnd.example+type"),
    "the same layer twice": oci(IMAGE_CONFIG, of(LAYER, OCI_LAYER), of(LAYER, OCI_LAYER)),
    "no layers": oci(IMAGE_CONFIG),
    "an empty layer": oci(IMAGE_CONFIG, of(b"", OCI_LAYER)),
    "a referrer of what is not there": oci(NO_CONFIG, of(LAYER, "text/plain"), subject=of(b"nothing", OCI_MANIFEST)),
    "a base image that is not there": oci(IMAGE_CONFIG, of(LAYER, OCI_LAYER), annotations=BASE),
    "many layers": oci(NO_CONFIG, *(of(LAYER, "text/plain", annotations=title) for title in TITLES)),
    "index": INDEX,
    "index without a type": untyped(INDEX),
    "index with a subject": listing(CHILD, subject=of(b"nothing", OCI_MANIFEST), artifactType="x/y"),
    "index of an index": listing(INDEX, CHILD),
    "index with an attestation": listing(CHILD, (ATTESTATION, ATTESTS)),
    "docker list of oci images": listing(CHILD, media_type=DOCKER_LIST),
    "an index of nothing": listing(),
}


async def test_what_tools_push_is_taken_where_the_registry_takes_it(edge: RunningEdge) -> None:
    for repository in (REPOSITORY, ELSEWHERE):
        for blob in (CONFIG, LAYER, OTHER, EMPTY, b""):
            await edge.direct.upload(repository, blob)
        await edge.direct.push(repository, CHILD.digest, CHILD)
        for child in (ATTESTATION, INDEX):
            await edge.direct.put(repository, child.digest, child)
    for number, (name, pushed) in enumerate(SHAPES.items()):
        wanted = await edge.direct.put(ELSEWHERE, f"t{number}", pushed)
        for _ in range(2):
            answer = await edge.client.put(REPOSITORY, f"t{number}", pushed)
            assert answer.status == wanted.status, (name, wanted.body, answer.status, answer.body)
        if wanted.status == 201:
            assert (await edge.client.pull(REPOSITORY, f"t{number}")).body == pushed.body, name
        else:
            assert not await edge.store.client.exists(keys.tag(REPOSITORY, f"t{number}")), name
