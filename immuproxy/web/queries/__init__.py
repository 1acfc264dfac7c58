"""One function a view: read what the view says, and let its context say it.  Thin: nothing is decided here.

All raise `LedgerUnavailableError` when Redis does not answer, `BadCursorError` for a cursor that nobody gave out, and
`Problem` for what is not there.
"""
