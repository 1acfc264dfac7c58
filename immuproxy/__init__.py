"""immuproxy: a registry proxy that makes image tags immutable.

It stands in front of a container registry ("the upstream").  The nouns are those of the OCI distribution
specification: repository, tag, digest, manifest, index, blob, referrer.  The product's own are: rule, policy,
verdict (``rules``); claim, tag record, event (``ledger``); edge (the listener that clients push to) and console
(the listener with the web page).

The rooms, what each may import and the journeys through them: docs/architecture.md.
"""

from __future__ import annotations

__version__ = "0.1.0"
