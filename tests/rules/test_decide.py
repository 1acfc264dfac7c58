from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from immuproxy.rules.decide import CHILD_FIRST, decide_delete, decide_push, shown
from immuproxy.rules.model import Decision, Held, Image, Mode, OverwriteCondition, Policy, PushFacts, Rule, Verdict
from immuproxy.values.networks import parse_network
from immuproxy.values.text import MAX_SHOWN
from tests.rules.files import digest, held, image, index, push, users

MINUTE = 60_000
REVISION = "org.opencontainers.image.revision"


def rule(policy: Policy = Policy.IMMUTABLE, *overwrite: OverwriteCondition, **more: object) -> Rule:
    return Rule(name="releases", line=12, policy=policy, overwrite=overwrite, **more)  # type: ignore[arg-type]


def overwrite(
    condition: OverwriteCondition,
    *more: OverwriteCondition,
    old: Image | None = None,
    new: Image | None = None,
    since_ms: int | None = 0,
    asked: dict[str, object] | None = None,
) -> Verdict:
    """The verdict on a push of another digest under conditions."""
    wish = push(new or image("b"), **(asked or {}))  # type: ignore[arg-type]
    return decide_push(rule(Policy.IMMUTABLE, condition, *more), wish, held(old or image("a"), since_ms=since_ms))


class TestPolicies:
    def test_the_first_push_wins(self) -> None:
        first = decide_push(rule(), push(image("a")), None)
        second = decide_push(rule(), push(image("b")), held(image("a")))
        assert first.outcome is Decision.CREATE
        assert (second.outcome, second.rule, second.line) == (Decision.REFUSE, "releases", 12)
        assert second.reason == "rule releases (line 12) is immutable and the tag already holds another digest"

    @pytest.mark.parametrize("policy", list(Policy))
    def test_the_same_digest_again_is_unchanged_under_every_policy(self, policy: Policy) -> None:
        again = decide_push(rule(policy), push(image("a")), held(image("a")))
        assert again.outcome is Decision.UNCHANGED

    def test_mutable_tags_move(self) -> None:
        moving = rule(Policy.MUTABLE)
        assert decide_push(moving, push(image("a")), None).outcome is Decision.CREATE
        assert decide_push(moving, push(image("b")), held(image("a"))).outcome is Decision.OVERWRITE

    def test_frozen_takes_nothing_new(self) -> None:
        frozen = rule(Policy.FROZEN)
        for before in (None, held(image("a"))):
            verdict = decide_push(frozen, push(image("b")), before)
            assert verdict.outcome is Decision.REFUSE
            assert "frozen" in verdict.reason

    @pytest.mark.parametrize(
        ("old", "new", "grows"),
        [
            (index("a", "1", "2"), index("b", "1", "2", "3"), True),
            (index("a", "1", "2"), index("b", "1", "2"), True),
            (index("a"), index("b", "1"), True),
            (index("a", "1", "2"), index("b", "1", "3"), False),
            (index("a", "1"), index("b"), False),
            (image("a", "1"), image("b", "1", "2"), True),
            (image("a", "1"), image("b", "2"), False),
            (index("a", "1"), image("b", "1", "2"), False),
            (image("a", "1"), index("b", "1", "2"), False),
        ],
    )
    def test_append_only_may_only_grow(self, old: Image, new: Image, grows: bool) -> None:
        verdict = decide_push(rule(Policy.APPEND_ONLY), push(new), held(old))
        assert verdict.outcome is (Decision.OVERWRITE if grows else Decision.REFUSE)

    def test_append_only_names_what_is_dropped(self) -> None:
        verdict = decide_push(rule(Policy.APPEND_ONLY), push(index("b", "1")), held(index("a", "1", "2")))
        assert f"drops 1 of the 2 entries that the tag holds ({digest('2')})" in verdict.reason
        other = decide_push(rule(Policy.APPEND_ONLY), push(image("b")), held(index("a")))
        assert "the tag holds an index, while the push is an image" in other.reason

    def test_append_only_keeps_every_entry_as_it_was_described(self) -> None:
        old = replace(index("a", "1"), descriptors=frozenset({f"{digest('1')} one", f"{digest('1')} two"}))
        for lines in ({f"{digest('1')} one"}, {f"{digest('1')} one", f"{digest('1')} three"}):
            new = replace(index("b", "1", "2"), descriptors=frozenset(lines))
            verdict = decide_push(rule(Policy.APPEND_ONLY), push(new), held(old))
            assert verdict.outcome is Decision.REFUSE
            assert f"changes 1 of the 1 entries that the tag holds ({digest('1')})" in verdict.reason
        assert decide_push(rule(Policy.APPEND_ONLY), push(replace(old, digest=digest("c"))), held(old)).allowed

    def test_append_only_gives_no_platform_another_manifest(self) -> None:
        old = replace(index("a", "1", "2"), platforms={"amd": digest("1"), "arm": digest("2")})
        turned = replace(index("b", "1", "2", "3"), platforms={"amd": digest("2"), "arm": digest("2")})
        verdict = decide_push(rule(Policy.APPEND_ONLY), push(turned), held(old))
        assert verdict.outcome is Decision.REFUSE
        assert "gives other content than before to amd" in verdict.reason
        more = replace(index("c", "1", "2", "3"), platforms={**old.platforms, "s390x": digest("3")})
        assert decide_push(rule(Policy.APPEND_ONLY), push(more), held(old)).outcome is Decision.OVERWRITE

    def test_append_only_also_knows_exceptions_by_condition(self) -> None:
        condition = OverwriteCondition(users=users("bot"))
        append = rule(Policy.APPEND_ONLY, condition)
        wish = push(index("b"), user="bot")
        assert decide_push(append, wish, held(index("a", "1"))).outcome is Decision.OVERWRITE


class TestConditions:
    bot = OverwriteCondition(users=users("bot"))
    office = OverwriteCondition(networks=(parse_network("10.1.0.0/16"), parse_network("2001:db8::/32")))
    soon = OverwriteCondition(within_ms=15 * MINUTE)
    revision = OverwriteCondition(same=(REVISION,))

    def test_users(self) -> None:
        assert overwrite(self.bot, asked={"user": "bot"}).outcome is Decision.OVERWRITE
        assert "the user eve is not bot" in overwrite(self.bot, asked={"user": "eve"}).reason
        assert "names no user, it takes bot" in overwrite(self.bot).reason

    @pytest.mark.parametrize(
        ("patterns", "yes", "no", "words"),
        [
            (["ci-*", "bot"], ["ci-7", "bot"], ["cix", "ci-a/b", ""], "is not bot or ci-*"),
            (["ci-*", "!ci-7"], ["ci-8"], ["ci-7", "bot"], "is not ci-*, other than ci-7"),
            (["!ci-7", "!eve"], ["ci-8"], ["ci-7", "eve", ""], "is not anybody other than ci-7 or eve"),
            ([r"re:ci-\d+"], ["ci-77"], ["ci-", "xci-7"], r"is not re:ci-\d+"),
        ],
    )
    def test_users_by_patterns(self, patterns: list[str], yes: list[str], no: list[str], words: str) -> None:
        condition = OverwriteCondition(users=users(*patterns))
        for user in yes:
            assert overwrite(condition, asked={"user": user}).outcome is Decision.OVERWRITE
            assert overwrite(condition, asked={"user": user, "confirmed": False}).outcome is Decision.REFUSE
        for user in no:
            verdict = overwrite(condition, asked={"user": user or None})
            assert verdict.outcome is Decision.REFUSE
            assert (words if user else "names no user") in verdict.reason

    def test_a_name_that_was_cut_counts_for_nothing(self) -> None:
        """What is known of it is its beginning, and `!*-guest` looks at its end."""
        condition = OverwriteCondition(users=users("**", "!**-guest"))
        assert overwrite(condition, asked={"user": "a" * (MAX_SHOWN - 1)}).outcome is Decision.OVERWRITE
        verdict = overwrite(condition, asked={"user": "a" * MAX_SHOWN})
        assert (verdict.outcome, "the user's name is too long" in verdict.reason) == (Decision.REFUSE, True)

    def test_a_name_that_nobody_confirmed_counts_for_nothing(self) -> None:
        verdict = overwrite(self.bot, asked={"user": "bot", "confirmed": False})
        assert verdict.outcome is Decision.REFUSE
        assert "the upstream has not confirmed that the user is bot" in verdict.reason

    @pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"])
    def test_networks(self, address: str) -> None:
        assert overwrite(self.office, asked={"address": address}).outcome is Decision.OVERWRITE

    @pytest.mark.parametrize("address", ["10.2.0.1", "::1", "nonsense", "", None])
    def test_other_addresses(self, address: str | None) -> None:
        verdict = overwrite(self.office, asked={"address": address})
        assert verdict.outcome is Decision.REFUSE
        assert "client" in verdict.reason

    def test_within_counts_from_the_first_push_and_includes_its_limit(self) -> None:
        assert overwrite(self.soon, asked={"now_ms": 15 * MINUTE}).outcome is Decision.OVERWRITE
        late = overwrite(self.soon, asked={"now_ms": 184 * MINUTE})
        assert late.outcome is Decision.REFUSE
        assert "the first push was 3h4m ago, the limit is 15m" in late.reason

    def test_within_never_holds_for_a_first_push_that_lies_in_the_future(self) -> None:
        """Its clock was ahead: counted from there, the time would be longer than the rule says."""
        verdict = overwrite(self.soon, since_ms=3 * MINUTE, asked={"now_ms": 2 * MINUTE})
        assert verdict.outcome is Decision.REFUSE
        assert "the first push is dated 1m from now" in verdict.reason

    def test_within_never_holds_for_a_tag_that_predates_the_proxy(self) -> None:
        verdict = overwrite(self.soon, since_ms=None)
        assert verdict.outcome is Decision.REFUSE
        assert "nobody knows when" in verdict.reason

    def test_same_label(self) -> None:
        old, new = image("a", **{REVISION: "abc"}), image("b", **{REVISION: "abc"})
        assert overwrite(self.revision, old=old, new=new).outcome is Decision.OVERWRITE
        other = overwrite(self.revision, old=old, new=image("b", **{REVISION: "def"}))
        assert f'{REVISION} was "abc" and is "def"' in other.reason

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (image("a"), image("b"), "the old image carries no"),
            (image("a", **{REVISION: ""}), image("b", **{REVISION: ""}), "the old image carries no"),
            (image("a", **{REVISION: "x"}), image("b"), "the new image carries no"),
        ],
    )
    def test_a_label_that_is_missing_or_empty_is_not_the_same(self, old: Image, new: Image, words: str) -> None:
        verdict = overwrite(self.revision, old=old, new=new)
        assert verdict.outcome is Decision.REFUSE
        assert words in verdict.reason

    def test_all_parts_of_an_entry_must_hold(self) -> None:
        both = OverwriteCondition(users=users("bot"), within_ms=15 * MINUTE)
        assert overwrite(both, asked={"user": "bot", "now_ms": 1}).outcome is Decision.OVERWRITE
        assert overwrite(both, asked={"user": "bot", "now_ms": 20 * MINUTE}).outcome is Decision.REFUSE
        assert overwrite(both, asked={"user": "eve", "now_ms": 1}).outcome is Decision.REFUSE

    def test_any_entry_suffices_and_is_named(self) -> None:
        verdict = overwrite(self.bot, self.soon, asked={"now_ms": 5})
        assert verdict.outcome is Decision.OVERWRITE
        assert verdict.reason == "rule releases (line 12) allows the overwrite: within 15m of the first push"

    def test_a_refusal_tells_why_each_entry_did_not_hold(self) -> None:
        verdict = overwrite(self.bot, self.office, asked={"address": "10.2.0.1"})
        assert (
            "none of its overwrite conditions holds: (1) the push names no user, it takes bot, "
            "(2) the client 10.2.0.1 is not in 10.1.0.0/16 or 2001:db8::/32"
        ) in verdict.reason


class TestChildPushedFirst:
    """H19: old clients push each platform to the tag, the index last."""

    def test_the_refusal_names_the_cause(self) -> None:
        verdict = decide_push(rule(), push(index("f", "a", "b")), held(image("a")))
        assert verdict.outcome is Decision.REFUSE
        assert CHILD_FIRST in verdict.reason

    def test_another_index_gets_no_such_hint(self) -> None:
        verdict = decide_push(rule(), push(index("f", "b", "c")), held(image("a")))
        assert CHILD_FIRST not in verdict.reason


class TestAfterADelete:
    gone = held(image("a"))

    def test_the_name_stays_taken(self) -> None:
        for again in (image("a"), image("b")):
            verdict = decide_push(rule(), push(again), None, deleted=self.gone)
            assert verdict.outcome is Decision.REFUSE
            assert digest("a") in verdict.reason

    def test_reuse_can_be_allowed(self) -> None:
        assert (
            decide_push(rule(reuse_allowed=True), push(image("b")), None, deleted=self.gone).outcome is Decision.CREATE
        )
        assert decide_push(rule(Policy.MUTABLE), push(image("b")), None, deleted=self.gone).outcome is Decision.CREATE

    def test_deletes_follow_the_rule(self) -> None:
        denied = decide_delete(rule(), repository="team/app", tag="1.4")
        allowed = decide_delete(rule(delete_allowed=True), repository="team/app", tag="1.4")
        assert denied.outcome is Decision.REFUSE
        assert "team/app:1.4 cannot be deleted" in denied.reason
        assert (allowed.outcome, "stays taken" in allowed.reason) == (Decision.DELETE, True)
        reusable = decide_delete(rule(delete_allowed=True, reuse_allowed=True), repository="r", tag="t")
        assert "stays taken" not in reusable.reason


class TestExceptions:
    def test_an_exception_lets_through_what_the_rule_refuses(self) -> None:
        cases = [
            (rule(), held(image("a")), None, Decision.OVERWRITE),
            (rule(Policy.FROZEN), None, None, Decision.CREATE),
            (rule(), None, held(image("a")), Decision.CREATE),
        ]
        for refusing, before, gone, outcome in cases:
            verdict = decide_push(refusing, push(image("b")), before, deleted=gone, permitted="hotfix")
            assert verdict.outcome is outcome
            assert "a temporary exception allows it: hotfix" in verdict.reason
        assert decide_delete(rule(), repository="r", tag="t", permitted="hotfix").outcome is Decision.DELETE

    def test_an_exception_is_not_used_where_it_is_not_needed(self) -> None:
        assert "exception" not in decide_push(rule(), push(image("a")), None, permitted="hotfix").reason


class TestShadow:
    trial = rule(mode=Mode.SHADOW)

    def test_shadow_lets_go_on_and_says_what_it_would_have_done(self) -> None:
        verdict = decide_push(self.trial, push(image("b")), held(image("a")))
        assert (verdict.outcome, verdict.shadow) == (Decision.OVERWRITE, True)
        assert verdict.reason.startswith(
            "in shadow mode; would have been refused: rule releases (line 12) is immutable"
        )
        frozen = rule(Policy.FROZEN, mode=Mode.SHADOW)
        assert decide_push(frozen, push(image("b")), None).outcome is Decision.CREATE
        delete = decide_delete(self.trial, repository="r", tag="t")
        assert (delete.outcome, delete.shadow) == (Decision.DELETE, True)

    def test_what_would_not_be_refused_is_not_marked(self) -> None:
        assert not decide_push(self.trial, push(image("a")), None).shadow
        assert not decide_push(self.trial, push(image("a")), held(image("a"))).shadow


def test_text_of_others_is_one_short_clean_line() -> None:
    assert shown("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"
    assert shown("x" * 100) == "x" * 60 + "..."


conditions = st.builds(
    OverwriteCondition,
    users=st.sampled_from([None, users("bot")]),
    networks=st.sampled_from([(), (parse_network("10.0.0.0/8"),)]),
    within_ms=st.sampled_from([None, 10]),
    same=st.sampled_from([(), ("rev",)]),
).filter(lambda condition: condition != OverwriteCondition())
images = st.builds(
    lambda name, entries, rev, kind: kind(name, *entries) if not rev else image(name, *entries, rev=rev),
    st.sampled_from("ab"),
    st.sets(st.sampled_from("123")),
    st.sampled_from(["", "1", "2"]),
    st.sampled_from([image, index]),
)
rules = st.builds(
    lambda policy, entries, mode, delete, reuse: rule(
        policy, *entries, mode=mode, delete_allowed=delete, reuse_allowed=reuse
    ),
    st.sampled_from(Policy),
    st.lists(conditions, max_size=2),
    st.sampled_from(Mode),
    st.booleans(),
    st.booleans(),
)
pushes = st.builds(
    lambda what, user, confirmed, address, now: push(what, user=user, confirmed=confirmed, address=address, now_ms=now),
    images,
    st.sampled_from([None, "bot", "eve"]),
    st.booleans(),
    st.sampled_from([None, "10.1.1.1", "192.0.2.1"]),
    st.integers(0, 20),
)
states = st.one_of(
    st.none(), st.builds(lambda what, since: held(what, since_ms=since), images, st.sampled_from([0, None]))
)


@settings(deadline=None, max_examples=50)
@given(rules, pushes, states, states, st.sampled_from([None, "because"]))
def test_every_verdict_names_its_rule_and_keeps_the_promises(
    judged: Rule, wish: PushFacts, before: Held | None, gone: Held | None, permitted: str | None
) -> None:
    verdict = decide_push(judged, wish, before, deleted=None if before else gone, permitted=permitted)
    assert (verdict.rule, verdict.line) == ("releases", 12)
    assert verdict.reason
    assert "\n" not in verdict.reason
    same = before is not None and before.image.digest == wish.image.digest
    assert (verdict.outcome is Decision.UNCHANGED) == same
    assert (verdict.outcome is Decision.CREATE) <= (before is None)
    assert (verdict.outcome is Decision.OVERWRITE) <= (before is not None and not same)
    if verdict.outcome is Decision.REFUSE:
        assert judged.protects
        assert permitted is None
    if verdict.shadow:
        assert judged.mode is Mode.SHADOW
    changed = verdict.outcome is Decision.OVERWRITE and judged.protects and permitted is None
    if changed and judged.policy is Policy.IMMUTABLE:
        assert judged.overwrite


@settings(deadline=None, max_examples=25)
@given(rules, pushes, states)
def test_an_unconfirmed_user_gets_no_more_than_nobody(judged: Rule, wish: PushFacts, before: Held | None) -> None:
    nobody = push(wish.image, address=wish.address, now_ms=wish.now_ms)
    claimed = push(wish.image, address=wish.address, now_ms=wish.now_ms, user="bot", confirmed=False)
    assert decide_push(judged, claimed, before).outcome is decide_push(judged, nobody, before).outcome
