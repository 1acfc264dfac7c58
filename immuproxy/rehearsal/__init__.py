"""Trying another rules file on the past: what it would have said to recorded pushes and deletes.

``past`` reads them from the ledger.  ``run`` judges them in a process of its own (``child``), for files that a stranger
may have written: reading such a file can keep a processor busy for many seconds, and a proxy's event loop must not feel
it.  That process has no credentials, little memory and little time, and ends with whoever asked.
"""
