"""The journey of a request from the edge to the upstream and back.

Read ``handler`` first: it parses, asks for the verdict and hands on.  ``stream`` passes through what is not ours,
``pushes`` and ``guard`` carry a manifest to its tag, ``reads`` answers protected tags by the ledger, ``deletes`` keeps
what is needed.  ``upstream`` is the only file that speaks HTTP to the registry; ``headers`` is pure.
"""
