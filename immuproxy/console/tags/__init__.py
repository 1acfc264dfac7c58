"""One tag: what it holds, and its life."""
