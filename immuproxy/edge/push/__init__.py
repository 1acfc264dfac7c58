"""The way of a manifest from the request to the tag.

Read ``protocol`` first: what the register does, as a table, then the steps of a push to a protected tag in their order.
Read ``put_manifest`` second: it reads the request and chooses between that and ``recorded``, for what no rule holds.

Beside the protocol stand ``multi_tag`` (several tags at once), ``evaluate`` (asks the rules), ``blob_check`` and
``late_children`` (what the tag will need), ``claim_cleanup`` and ``retry`` (when Redis does not answer), ``carrier``
(a PUT that no claim guards), and the values: ``model`` of a push, ``attempt`` of its claim and the times that bound it.
"""
