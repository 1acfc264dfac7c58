"""What is known about tags, in Redis; the only room that speaks Redis.

It stores outcomes and judges nothing.  ``model`` holds the values, ``keys`` the names of all Redis keys,
``redis`` the connection and the seam where Redis errors become ours, ``turns`` the queue in front of it,
``register`` the write-once register of a tag, ``audit`` the events and the searches over them.  Every step that changes
more than one thing is one Lua script in ``scripts/``.
"""
