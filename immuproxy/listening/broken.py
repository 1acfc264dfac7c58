"""What is wrong with a request that cannot be parsed, in words of our own.  PURE.

The parser's own words quote the head, and a head may hold a password (H84).  So no text of an error is passed on: only
its class counts, and of llhttp's reasons those that are known here.
"""

from __future__ import annotations

from aiohttp import http_exceptions as http

UNPARSED = "it cannot be parsed"


def reason(error: BaseException | None) -> str:
    """What kind of error it is; holds no byte of the request."""
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words
    text = error.message if isinstance(error, http.HttpProcessingError) else ""
    return _REASONS.get(text.partition(":\n\n")[0], UNPARSED)


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (http.LineTooLong, "the request line or a header is too long"),
    (http.InvalidHeader, "a header is malformed"),
    (http.PayloadEncodingError, "the length or the chunks of the body are malformed"),
    (http.InvalidURLError, "the target is no path and no URL"),
    (http.BadHttpMethod, "it does not begin with a method; perhaps TLS was spoken to a plain port"),
    (http.BadStatusLine, "the request line is malformed"),
)

_IN_NAME = "the name of a header holds a character that may not be there, such as a blank before the colon"
_IN_VALUE = "the value of a header holds a control character"
_BOTH = "it has both Content-Length and Transfer-Encoding"
_LENGTH = "Content-Length is malformed"
_ENDING = "a line does not end as it must"

_REASONS = {
    "Invalid header token": _IN_NAME,
    "Invalid header field char": _IN_NAME,
    "Invalid header value char": _IN_VALUE,
    "Unexpected whitespace after header value": "a header is folded over two lines",
    "Unexpected space after start line": "a header begins with a blank",
    "Too many headers received": "there are too many headers",
    "Missing 'Host' header in request.": "the Host header is missing",
    "Content-Length overflow": _LENGTH,
    "Invalid character in Content-Length": _LENGTH,
    "Duplicate Content-Length": "there are two Content-Length headers",
    "Content-Length can't be present with Transfer-Encoding": _BOTH,
    "Transfer-Encoding can't be present with Content-Length": _BOTH,
    "Invalid `Transfer-Encoding` header value": "Transfer-Encoding is malformed",
    "Expected CRLF after version": "the request line is malformed",
    "Expected LF after headers": _ENDING,
    "Expected LF after CR": _ENDING,
    "Missing expected CR after header value": _ENDING,
    "Missing expected LF after header value": _ENDING,
    "Invalid character in chunk size": "the chunks of the body are malformed",
    "Data after `Connection: close`": "something follows a request that said Connection: close",
}
