"""Permissions for a while: granted, ended and listed."""
