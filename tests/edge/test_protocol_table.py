"""The table of the push protocol is that of the scripts, of the explored model and of the page of guarantees."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from immuproxy.edge.push.protocol import DELETED, STATES, TRANSITIONS, TagState, Transition
from immuproxy.ledger import model
from tests.model import protocol as explored
from tests.model.explore import OURS, THEIRS
from tests.model.protocol import Protocol, Role

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "immuproxy" / "ledger" / "scripts"
STEPS = {row.step for row in TRANSITIONS}
NAMES = {state.name for state in TagState}
STATUS = r"\b[A-Z_]{4,}\b"
STATE = r"\b(?:ABSENT|[A-Z]+ED)\b"

Change = tuple[str, str, str]
"""A step, and the state that the record has before and after it."""


def changes(row: Transition) -> Iterator[Change]:
    """What a row may do to a record; nothing where it stays as it was."""
    for before in row.before:
        for after in row.after or ():
            if before is not after:
                yield row.step, str(before.name), str(after.name)


# --- the scripts


def parts(step: str) -> tuple[str, str]:
    """What a script's head says that it returns, and its code without the commands of Redis and the remarks."""
    lines = (SCRIPTS / f"{step}.lua").read_text().splitlines()
    head = [line for line in lines if line.startswith("--")]
    returns = next(number for number, line in enumerate(head) if line.startswith("-- Returns"))
    code = re.sub(r"redis\.call\('\w+'|--.*", "", "\n".join(line for line in lines if not line.startswith("--")))
    return "\n".join(head[returns:]), code


def replies(step: str) -> set[str]:
    return {str(row.reply) for row in TRANSITIONS if row.step == step}


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_step_has_the_replies_that_the_head_of_its_script_lists(step: str) -> None:
    head, _ = parts(step)
    assert set(re.findall(STATUS, head)) == replies(step)


@pytest.mark.parametrize("step", sorted(STEPS))
def test_a_step_has_the_replies_that_its_script_gives(step: str) -> None:
    _, code = parts(step)
    assert set(re.findall(rf"'({STATUS})'", code)) == replies(step)


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.step} {row.reply}")
def test_a_row_is_whole(row: Transition) -> None:
    assert (SCRIPTS / row.script).is_file()
    assert row.before
    assert row.when
    assert row.hears


def test_every_state_has_its_sentence_and_the_name_that_the_ledger_gives_it() -> None:
    assert set(STATES) == set(TagState)
    assert {state.value for state in model.State} == NAMES - {DELETED.name}  # to the ledger a tombstone is no state


# --- the model

NOT_EXPLORED = {"give_back"}
"""In the model a lease ends at any time, and so does that of a push which lost touch with Redis."""

ONE_WITH_THE_CLAIM = {("release", "CLAIMED", "ABSENT"), ("release", "CLAIMED", "COMMITTED")}
"""The model takes a claim and gives it back in one step, where nothing could come in between."""

STEP_OF = {"settle": "claim", "resume": "arm", "send": "release"}
"""The steps of the ledger that a push of the model takes where its own name for that is another."""

WORLDS = (
    (Role("push", OURS), Role("push", THEIRS)),
    (Role("push", OURS), Role("push", THEIRS, may_overwrite=True)),
)


def named(record: explored.Record) -> str:
    if record.claim:
        return record.claim.state
    return "COMMITTED" if record.committed else "ABSENT"


def taken(machine: Protocol) -> set[Change]:
    """What the pushes of a world do to the record, in every state that it can come to."""
    found: set[Change] = set()
    start = machine.start()
    known, waiting = {start}, deque([start])
    while waiting:
        state = waiting.popleft()
        for label, following in machine.steps(state):
            who = re.match(r"(?:push|actor) (\d)", label)
            before, after = named(state.record), named(following.record)
            if who and before != after:
                at = "adopt" if label.endswith("helps") else state.actors[int(who[1])].at
                found.add((STEP_OF.get(at, at), before, after))
            if following not in known:
                known.add(following)
                waiting.append(following)
    return found


def test_the_model_changes_the_record_as_the_table_does() -> None:
    in_table = {change for row in TRANSITIONS for change in changes(row) if row.step not in NOT_EXPLORED}
    without_tombstones = {change for change in in_table if DELETED.name not in change}
    assert set().union(*(taken(Protocol(roles)) for roles in WORLDS)) == without_tombstones - ONE_WITH_THE_CLAIM


def test_the_model_names_the_states_of_the_table() -> None:
    written = re.findall(STATE, str(explored.Record.__doc__))
    assert {*written, explored.CLAIMED, explored.ARMED} == NAMES - {DELETED.name}


def test_the_model_names_the_steps_of_the_table() -> None:
    others = {"intend", "delete_begin", "delete_end"}  # of what is not guarded, and of deletes
    docs = (str(method.__doc__) for method in vars(Protocol).values() if callable(method))
    cited = {script for doc in docs for script in re.findall(r"\b([a-z]\w*)\.lua", doc)}
    assert cited - others == STEPS - NOT_EXPLORED


# --- the page of guarantees


def section() -> str:
    text = (ROOT / "docs" / "guarantees.md").read_text()
    return text.split("## The record of a tag\n")[1].split("\n## ")[0]


def test_the_page_lists_the_steps_of_the_table() -> None:
    listed = {name.replace(" ", "_") for name in re.findall(r"^\* \*\*([a-z ]+)\*\*:", section(), re.MULTILINE)}
    assert listed == STEPS


def test_the_page_names_the_states_of_the_table() -> None:
    assert set(re.findall(STATE, section())) == NAMES


def test_the_pages_diagram_is_in_the_table() -> None:
    diagram = re.sub(r"\([^)]*\)", "", section())
    drawn = {
        (step, before, after) for before, step, after in re.findall(r"(?=\b([A-Z]+) ──([a-z]+)──▶ ([A-Z]+))", diagram)
    }
    assert len(drawn) == 3
    assert diagram.count(" release ") == 2  # from CLAIMED and from ARMED, back to ABSENT
    drawn |= {("release", before, "ABSENT") for before in ("CLAIMED", "ARMED")}
    assert drawn <= {change for row in TRANSITIONS for change in changes(row)}
