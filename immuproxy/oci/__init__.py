"""What a request says, by the OCI distribution specification.  Pure: no I/O, no clock, no rules.

``names`` holds the grammars, ``routes`` turns a request line into one parsed `Operation`, ``manifests`` reads the body
of a manifest, ``errors`` holds the error answer of the specification.
"""
