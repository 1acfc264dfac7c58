"""The console: the listener with the web page and the JSON API, where people look.

A view is a folder (``overview``, ``audit``, ``repositories``, ``tags``, ``manifests``, ``compare``, ``drift``,
``exceptions``, ``rules``, ``what_if``).  In it ``view`` reads what the view shows and says it as one plain dict;
``routes`` answers with that dict as HTML, by the templates beside it, and as JSON, so both always say the same; what
needs no I/O (PURE) has a file of its own, named after what it is about.  ``access`` decides who gets in, and has the
log-in page.

What the views share stands here: ``sources`` names what they read, ``parameters`` reads a query, ``links`` (PURE) is
the one place that knows the console's URLs, ``answers`` makes a page, JSON or an error of a dict, ``drawing`` and
``wording`` (PURE) are what the templates draw and say with, and ``templates`` are those that several views use.
``routes`` lists the views, and ``app`` puts all of it together.
"""
