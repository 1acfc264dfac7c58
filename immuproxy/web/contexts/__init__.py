"""What each view says, as one plain dict of JSON values; `pages` shows it as HTML and `api` as JSON.  PURE.

Times are integers: milliseconds since 1970-01-01 UTC.
"""
