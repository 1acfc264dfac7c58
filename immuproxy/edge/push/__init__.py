"""The way of a manifest from the request to the tag."""
