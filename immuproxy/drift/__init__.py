"""What happens without a client: finishing what a crash left open, and comparing the ledger with the upstream.

``sweep`` walks, politely and without a leader; ``service`` is the caller that it walks as.
"""
