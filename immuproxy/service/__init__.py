"""The composition root: every room is opened, put together and closed here; the only one that knows all others."""
