"""immuproxy: a registry proxy that makes image tags immutable.

It stands in front of a container registry ("the upstream").  The nouns are those of the OCI distribution
specification: repository, tag, digest, manifest, index, blob, referrer.  The product's own are: rule, policy,
verdict (``rules``); claim, tag record, event (``ledger``); edge (the listener that clients push to) and console
(the listener with the web page).

The rooms, in the order in which a push visits them:

``oci``        pure   names, routes, manifests, errors: what a request says
``rules``      pure   what the operator wants
``ledger``     I/O    what is known about tags; the only room that speaks Redis
``proxy``      I/O    the journey of a request: handler, guard, stream, upstream
``drift``      I/O    the sweep: finishes what a crash left open, compares ledger and upstream
``web``        I/O    the console, which reads the ledger
``telemetry``         logs and metrics
``app``, ``cli``      put the rooms together; they decide nothing
"""

from __future__ import annotations

__version__ = "0.1.0"
