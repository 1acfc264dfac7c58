"""Where the registry shows something else than the ledger holds."""
