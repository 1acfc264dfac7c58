"""Exceptions to the rules: permissions to overwrite or delete one tag for a while, and the record of them."""
