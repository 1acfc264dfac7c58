"""The console: the listener with the web page and the JSON API, where people look.

``sources`` names what it reads and ``queries`` reads it; ``contexts`` (PURE) turns what was read into one plain dict
a view; ``pages`` shows that dict as HTML and ``api`` as JSON, so both always say the same.  ``links`` (PURE) is the
one place that knows the console's URLs, ``drawing`` and ``wording`` (PURE) are what the templates draw and say with.
``app`` puts all of it together.
"""
