"""The journey of a request from the edge to the upstream and back.

Read ``handler`` first: it parses, sees who asks, and hands on.  Read ``push/protocol`` second: how a manifest comes to
a tag that a rule holds.  Then ``reads`` (protected tags, answered by the ledger), ``deletes`` (what is needed stays),
``recovery`` (anybody finishes what a crash has left) and ``relay`` (what is not ours passes through).  ``upstream`` is
the only file that speaks HTTP to the registry; ``headers`` is pure.
"""
