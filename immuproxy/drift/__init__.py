"""What happens without a client: finishing what a crash left open, and comparing the ledger with the upstream.

``sweep`` walks, politely and without a leader; ``notifications`` takes the registry's hints; ``healer`` sets right what
drifted; ``service`` is the caller that all of them are at the upstream.
"""
