"""The state machine of a guarded push, in every state; larger worlds by ``python -m tests.model.explore``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.model.explore import OLD, OURS, THEIRS, explore
from tests.model.naive import HeadThenPut, LeaseOnly
from tests.model.protocol import Protocol, Role, Variant

PUSH, OTHER, READ = Role("push", OURS), Role("push", THEIRS), Role("read")
OVERWRITE = Role("push", THEIRS, may_overwrite=True)

SMALL_WORLDS = {
    "two pushes": (PUSH, OTHER, READ),
    "the same push twice": (PUSH, PUSH, READ),
    "an overwrite": (PUSH, OVERWRITE, READ),
    "a delete": (PUSH, Role("delete", OURS), READ),
    "an allowed delete": (PUSH, Role("delete", OURS, may_delete=True), READ),
    "a delete of what predates the ledger": (OTHER, Role("delete", OLD), READ),
}


@pytest.mark.parametrize("upstream", [None, OLD])
@pytest.mark.parametrize("world", SMALL_WORLDS)
def test_the_protocol_holds_in_every_state(world: str, upstream: str | None) -> None:
    found = explore(Protocol(SMALL_WORLDS[world]), upstream)
    assert not found.broken, "\n".join((found.broken, *found.story))
    assert found.states > 200  # it did go somewhere


def test_h67_the_protocol_holds_when_redis_loses_claims() -> None:
    found = explore(Protocol((PUSH, OTHER, READ), variant=Variant(loses_claims=True)))
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h61_asking_and_then_pushing_is_wrong() -> None:
    found = explore(HeadThenPut((PUSH, OTHER)))
    assert "V1" in found.broken
    assert "PUT of 1 arrives" in found.story


def test_h62_a_lease_alone_is_wrong() -> None:
    found = explore(LeaseOnly((PUSH, OTHER, READ)))
    assert "V1" in found.broken
    assert "a lease ends" in found.story


def test_h28_reads_that_pass_through_are_wrong() -> None:
    found = explore(Protocol((PUSH, OTHER, READ), variant=Variant(reads_by_ledger=False)))
    assert "V1" in found.broken
    assert "actor 2: reads d1" in found.story


def test_h77_a_mark_that_goes_before_its_delete_can_land_is_wrong() -> None:
    found = explore(Protocol((PUSH, Role("delete", OURS), READ), variant=Variant(patient_marks=False)))
    assert "V3" in found.broken


def test_h34_adopting_what_is_being_deleted_is_wrong() -> None:
    roles = (PUSH, OTHER, Role("delete", OURS), READ)
    found = explore(Protocol(roles, attempts=1, variant=Variant(adoption_heeds_marks=False)))
    assert "V3" in found.broken


AGAIN = (Role("push", OLD), Role("delete", OURS, may_delete=True), Role("push", THEIRS, may_overwrite=True, over=OURS))


def test_h102_a_verdict_on_what_was_deleted_and_pushed_anew_is_void() -> None:
    found = explore(Protocol(AGAIN), OURS)
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h102_generations_that_begin_again_are_wrong() -> None:
    found = explore(Protocol(AGAIN, variant=Variant(lasting_generations=False)), OURS)
    assert f"V1: {THEIRS} is committed where the tag held {OLD}" in found.broken


def test_h103_overwrites_are_judged_by_what_is_in_force() -> None:
    found = explore(Protocol((PUSH, OVERWRITE, READ), attempts=1, variant=Variant(rules_change=True)))
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h103_a_verdict_from_before_a_wait_is_wrong() -> None:
    found = explore(Protocol((PUSH, OVERWRITE), variant=Variant(rules_change=True, judges_again=False)))
    assert "V4" in found.broken


SHARED = Variant(shared_looks=True)
READERS = {
    "a push": ((PUSH, READ, READ), None),
    "an overwrite": ((OVERWRITE, READ, READ), OLD),
    "an allowed delete": ((PUSH, Role("delete", OURS, may_delete=True), READ), None),
}


@pytest.mark.parametrize("world", READERS)
def test_h134_shared_looks_that_began_after_their_readers_hold(world: str) -> None:
    roles, upstream = READERS[world]
    found = explore(Protocol(roles, variant=SHARED), upstream)
    assert not found.broken, "\n".join((found.broken, *found.story))
    assert found.states > 200


def test_h134_joining_a_look_that_is_under_way_is_wrong() -> None:
    roles, upstream = READERS["an overwrite"]
    found = explore(Protocol(roles, variant=replace(SHARED, joins_late=True)), upstream)
    assert f"V1: actor 2 is told {OLD} (reads {OLD})" in found.broken
    assert "read 2 joins a look under way" in found.story


EXCLUSIVE = Variant(exclusive=True)


@pytest.mark.parametrize("world", [name for name in SMALL_WORLDS if "predates" not in name])
def test_h138_nobody_need_look_where_the_ledger_knows_of_all(world: str) -> None:
    found = explore(Protocol(SMALL_WORLDS[world], variant=EXCLUSIVE))
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h138_not_to_look_where_the_ledger_does_not_know_of_all_is_wrong() -> None:
    found = explore(Protocol((PUSH, PUSH), variant=EXCLUSIVE), OLD)
    assert f"V1: {OURS} is committed where the tag held {OLD}" in found.broken


ALLOWED = Role("delete", OURS, may_delete=True)
REVIVING = {
    "the push of what goes": ((PUSH, ALLOWED, READ), None),
    "an overwrite of what goes": ((Role("push", OLD), ALLOWED, OVERWRITE), OURS),
}


@pytest.mark.parametrize("world", REVIVING)
def test_h110_what_was_sent_before_a_delete_revives_nothing(world: str) -> None:
    roles, upstream = REVIVING[world]
    found = explore(Protocol(roles, attempts=1, variant=Variant(quarantine_holds=True)), upstream)
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h110_forgetting_the_overwrite_that_a_delete_cut_off_is_wrong() -> None:
    roles, upstream = REVIVING["an overwrite of what goes"]
    variant = Variant(quarantine_holds=True, remembers_claims=False)
    found = explore(Protocol(roles, attempts=1, variant=variant), upstream)
    assert f"V5: {THEIRS}" in found.broken
    assert "PUT of 2 arrives" in found.story


def test_h110_forgetting_what_a_deleted_tag_held_is_wrong() -> None:
    """Somebody has seen it before the delete, and adopts it after that."""
    roles, upstream = REVIVING["an overwrite of what goes"]
    variant = Variant(quarantine_holds=True, remembers_held=False)
    found = explore(Protocol(roles, attempts=1, variant=variant), upstream)
    assert f"V5: {OURS}" in found.broken


@pytest.mark.parametrize("upstream", [None, OLD])
def test_h104_a_push_that_a_rule_catches_up_with_is_settled_by_the_register(upstream: str | None) -> None:
    found = explore(Protocol((PUSH, OTHER, READ), attempts=1, variant=Variant(rule_widens=True)), upstream)
    assert not found.broken, "\n".join((found.broken, *found.story))


def test_h104_answering_it_as_if_the_tag_were_free_is_wrong() -> None:
    found = explore(Protocol((PUSH, OTHER), attempts=1, variant=Variant(rule_widens=True, settles_again=False)))
    assert "V1" in found.broken
    assert "a rule comes to hold the tag" in found.story
