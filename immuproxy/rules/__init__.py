"""What the operator wants: rules read from a file, and the verdicts they give.

The nouns: a `RuleSet` (one file, read) holds `Rule`s in order; a `Rule` names repositories and tags by `Pattern`s and
has a policy; `PushFacts` are somebody's wish, `Held` is what the tag means now; a `Verdict` says what is to happen,
why, and which rule on which line said so.

Nothing here does I/O, logs or tells the time: the moment of a push is a field of the push.

``problems``   what is wrong with a file, and where
``source``     YAML text -> nodes that know their line
``patterns``   globs, ``re:`` and ``semver:`` (the ranges are in ``versions``)
``index``      many rules -> the first that matches, quickly
``document``   nodes -> rules, all errors at once
``decide``     rule + push + held -> verdict
``explain``    which rules were tried for a tag, and what they mean for it
``simulate``   what another file would have said to past pushes
"""
