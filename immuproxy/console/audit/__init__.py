"""The audit log: searched, exported and followed."""
