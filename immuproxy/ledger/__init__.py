"""What is known about tags, in Redis.

It stores outcomes and judges nothing.  ``model`` holds the values, ``keys`` the names of the Redis keys, ``reader``
reads and ``register`` changes what a tag holds, ``epoch`` notices a ledger that was lost.  Every step that changes more
than one thing is one Lua script in ``scripts/``.
"""
