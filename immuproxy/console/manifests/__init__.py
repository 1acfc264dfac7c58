"""One manifest and what is in it."""
