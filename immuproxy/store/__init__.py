"""The connection to Redis in all its forms, and what needs no more than that; no word of tags or events."""
