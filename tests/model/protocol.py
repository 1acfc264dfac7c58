"""The protocol of a guarded push as a small state machine, to be explored exhaustively (`tests.model.explore`).

One tag.  The ledger's record steps exactly as its scripts do (`immuproxy/ledger/scripts`), with the same state names.
The actors are as the proxy's code; the world is as hostile as it can be:

- a request that was sent reaches the upstream at any later time, long after its sender gave up, or never;
- a lease ends at any time, also while its owner is at work (it may have been frozen);
- any actor stops for ever at any step.

What must hold, with `history` the values that the tag has had (`None`: nothing), each from its commit on:

- V1  an answer names a value that the tag had at some moment between the request and the answer (so 201, 200 and 404
      never contradict each other), and a value changes only where a rule allows it;
- V2  409 only when the tag held something else;
- V3  no DELETE reaches the upstream that takes away what the tag holds, unless a rule allows it;
- V4  an overwrite is claimed only where the rules in force at that moment allow it (H103);
- V5  what was sent before the tag was deleted does not become what it holds (H110): all that is written here is ours.

The quarantine after which others may replace an armed claim ends at any time here too: safety does not rest on it.
What does rest on it is V3: a mark is taken away only when its DELETE can no longer land; and V5: what may land late is
forgotten only when it can land no more, and nobody is about to adopt what he saw of it.  V5 is asked only where the
quarantine holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

CLAIMED, ARMED = "CLAIMED", "ARMED"
DONE = "done"
"""Of an actor that has answered, and of one that stopped for ever: nobody can tell the two apart."""

FREE = -1
"""The attempt of a PUT that no claim guards."""


class Violation(Exception):
    """One of the promises is broken; the message says which."""


class Claim(NamedTuple):
    """Somebody's claim; `expired` once its lease has ended."""

    state: str
    digest: str
    token: tuple[int, int]
    expired: bool = False


class Record(NamedTuple):
    """COMMITTED when `committed` is set, ABSENT when both are None; both set is an overwrite under way."""

    committed: str | None = None
    generation: int = 0
    claim: Claim | None = None


class Sent(NamedTuple):
    """A request on its way to the upstream."""

    method: str
    digest: str
    actor: int
    attempt: int


class Look(NamedTuple):
    """A look at the ledger that readers share; `seen` is the record, once it was read."""

    readers: frozenset[int]
    seen: Record | None = None


class Actor(NamedTuple):
    """Where somebody is in their work, and what they have learnt.  `since`: the tag's history when they began."""

    at: str
    attempt: int = 0
    since: int = 0
    known: Any = None
    over: int = 0


class State(NamedTuple):
    """The whole world."""

    record: Record
    upstream: str | None
    mark: str | None
    sent: frozenset[Sent]
    actors: tuple[Actor, ...]
    history: tuple[str | None, ...]
    floor: int = 0
    strict: bool = False
    late: frozenset[str] = frozenset()
    free: bool = False
    looks: frozenset[Look] = frozenset()

    def put(self, number: int, actor: Actor) -> State:
        """The same world, with one actor somewhere else."""
        return self._replace(actors=(*self.actors[:number], actor, *self.actors[number + 1 :]))


@dataclass(frozen=True)
class Role:
    """What an actor is there for.

    `name`: push, read or delete.  `over`: what alone it may overwrite; empty: anything.
    """

    name: str
    digest: str = ""
    may_overwrite: bool = False
    may_delete: bool = False
    over: str = ""

    def may_follow(self, held: str | None) -> bool:
        """The rules' verdict on an overwrite of `held`."""
        return self.may_overwrite and self.over in {"", held}


@dataclass(frozen=True)
class Variant:
    """The protocol, or a weaker one that is shown to be wrong.

    `reads_by_ledger`: off, readers get what the upstream shows.  `patient_marks`: off, the sweep takes a mark away
    although its DELETE may still land, as where it goes by a clock that leaps ahead (H112).  `adoption_heeds_marks`:
    off, what is being deleted may be taken into the ledger.  `loses_claims`: on, Redis may lose a claim that is not
    committed (H67), which the protocol survives.  `rules_change`: on, the rules may come to allow no overwrite at any
    time; `judges_again`: off, a verdict from before is used all the same.  `lasting_generations`: off, a tag that is
    pushed anew after its delete counts from 1 again (H102).  `quarantine_holds`: on, nothing is forgotten of a PUT that
    may still land; `remembers_held`, `remembers_claims`: off, a delete remembers nothing of what the tag held, or of an
    armed overwrite (H110).  `rule_widens`: on, the tag is free to move at first, until a rule comes to hold it at any
    time (H104); `settles_again`: off, a push from before is answered all the same.
    `believes_answers`: on, a PUT whose answer came is committed without a look at the upstream; off, none is.
    `exclusive`: on, a first push goes without a look at the upstream, as where the ledger knows of all that is there.
    `shared_looks`: on, readers gather for a look at the ledger, and what it shows comes from memory (edge/look.py);
    `joins_late`: on, they also get what a look shows that is under way (H134).
    """

    reads_by_ledger: bool = True
    patient_marks: bool = True
    adoption_heeds_marks: bool = True
    loses_claims: bool = False
    lasting_generations: bool = True
    rules_change: bool = False
    judges_again: bool = True
    quarantine_holds: bool = False
    remembers_held: bool = True
    remembers_claims: bool = True
    rule_widens: bool = False
    settles_again: bool = True
    believes_answers: bool = True
    exclusive: bool = False
    shared_looks: bool = False
    joins_late: bool = False


Step = tuple[str, State]


def _seen_by(actor: Actor) -> tuple[Any, ...]:
    """What an actor has seen under the tag and is about to adopt."""
    return actor.known if actor.at == "adopt" else ()


class Protocol:
    """The transitions."""

    def __init__(self, roles: tuple[Role, ...], *, attempts: int = 2, variant: Variant = Variant()) -> None:
        """`attempts`: how often one push may start again before it answers 503."""
        self.roles = roles
        self.attempts = attempts
        self.variant = variant

    def start(self, upstream: str | None = None) -> State:
        """Before anything happened; `upstream` is a tag that predates the ledger."""
        actors = tuple(Actor("idle") for _ in self.roles)
        free = self.variant.rule_widens
        return State(Record(), upstream, None, frozenset(), actors, (None if free else upstream,), free=free)

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next; raises `Violation` where that breaks a promise."""
        yield from self._world(state)
        for number, role in enumerate(self.roles):
            actor = state.actors[number]
            if actor.at == DONE:
                continue
            if actor.at == "idle":
                if state.free and role.name != "push":
                    continue  # nothing is promised of a tag that may move
                begins = {"push": "free" if state.free else "claim", "read": "read", "delete": "begin"}[role.name]
                yield f"{role.name} {number} begins", state.put(number, Actor(begins, since=len(state.history) - 1))
                continue
            yield f"{role.name} {number} stops for ever", state.put(number, Actor(DONE))
            yield from getattr(self, f"_{role.name}_{actor.at}")(state, number, role, actor)

    # --- the world

    def _world(self, state: State) -> Iterator[Step]:
        record = state.record
        if record.claim and not record.claim.expired:
            yield "a lease ends", state._replace(record=record._replace(claim=record.claim._replace(expired=True)))
        if self.variant.loses_claims and record.claim and not record.committed:
            yield "Redis loses a claim", state._replace(record=Record())
        if self.variant.rules_change and not state.strict:
            yield "the rules come to allow no overwrite", state._replace(strict=True)
        if state.free:
            yield "a rule comes to hold the tag", state._replace(free=False)
        yield from self._late(state)
        yield from self._looks(state)
        for request in state.sent:
            gone = state._replace(sent=state.sent - {request})
            yield f"{request.method} of {request.actor} is lost", gone
            arrived = self._arrived(gone, request)
            yield f"{request.method} of {request.actor} arrives", arrived
            sender = state.actors[request.actor]
            if self.variant.believes_answers and sender.known == "sent" and sender.attempt == request.attempt:
                answered = arrived.put(request.actor, sender._replace(known="answered"))
                yield f"{request.method} of {request.actor} arrives and is answered", answered
        if state.mark and self._sweep_may_look(state):
            ended = state._replace(mark=None)
            if state.upstream != state.mark and record.committed == state.mark:
                ended = self._dropped(ended)
            yield "the sweep takes a mark away", ended

    def _looks(self, state: State) -> Iterator[Step]:
        """edge/look.py: all who have gathered share a look, several may be under way, and none waits for another."""
        gathered = frozenset(number for number, actor in enumerate(state.actors) if actor.at == "gather")
        if gathered:
            begun = state._replace(looks=state.looks | {Look(gathered)})
            for number in gathered:
                begun = begun.put(number, begun.actors[number]._replace(at="shared"))
            yield f"a look begins for {sorted(gathered)}", begun
        for look in state.looks:
            others = state.looks - {look}
            if look.seen is None:
                read = look._replace(seen=state.record)
                yield f"the look for {sorted(look.readers)} reads", state._replace(looks=others | {read})
            if not any(state.actors[number].at == "shared" for number in look.readers):
                yield f"the look for {sorted(look.readers)} is over", state._replace(looks=others)

    def _late(self, state: State) -> Iterator[Step]:
        """drift/late.py, once the quarantine is over.  The tag's claim keeps pushes away while the link goes."""
        for digest in sorted(state.late):
            if self._may_land(state, digest) or any(digest in _seen_by(actor) for actor in state.actors):
                continue
            forgotten = state._replace(late=state.late - {digest})
            if state.record.committed or state.upstream != digest:
                yield f"the sweep forgets {digest}", forgotten
            elif not state.record.claim:
                yield f"the sweep removes {digest}, which came late", forgotten._replace(upstream=None)

    def _may_land(self, state: State, digest: str) -> bool:
        """A PUT is under way, or is about to be sent within the lease of its claim."""
        on_the_way = any(request.method == "PUT" and request.digest == digest for request in state.sent)
        about_to = (
            role.digest == digest and (actor.at == "send" or actor.known == "resumed")
            for role, actor in zip(self.roles, state.actors, strict=True)
        )
        return on_the_way or any(about_to)

    def _sweep_may_look(self, state: State) -> bool:
        """Whether the delete's proxy is gone; a patient sweep waits until its DELETE cannot land any more."""
        at_work = any(
            role.name == "delete" and actor.at not in {"idle", DONE}
            for role, actor in zip(self.roles, state.actors, strict=True)
        )
        landing = any(request.method == "DELETE" for request in state.sent)
        return not at_work and not (landing and self.variant.patient_marks)

    def _arrived(self, state: State, request: Sent) -> State:
        if request.method == "PUT":
            return state._replace(upstream=request.digest)
        needed = state.record.committed == request.digest and not self.roles[request.actor].may_delete
        if needed:
            raise Violation(f"V3: a DELETE takes away {request.digest}, which the tag holds")
        return state._replace(upstream=None) if state.upstream == request.digest else state

    def _dropped(self, state: State) -> State:
        """The record goes with what a delete took away; what may land of it, and of its claim, is remembered."""
        committed, generation, claim = state.record
        floor = max(state.floor, generation) if self.variant.lasting_generations else 0
        held = committed if self.variant.remembers_held else None
        armed = claim.digest if claim and claim.state == ARMED and self.variant.remembers_claims else None
        state = self._remembered(state, held, armed)
        return state._replace(record=Record(), history=(*state.history, None), floor=floor)

    def _remembered(self, state: State, *digests: str | None) -> State:
        """may_land of _common.lua."""
        late = state.late.union(filter(None, digests))
        return state._replace(late=late) if self.variant.quarantine_holds else state

    # --- the ledger's scripts

    def _hold(self, state: State, digest: str, *, may_overwrite: bool, claim: Claim | None = None) -> State:
        """COMMITTED(digest); the only place at which the tag comes to hold something."""
        now = state.history[-1]
        if now not in {None, digest} and not may_overwrite:
            raise Violation(f"V1: {digest} is committed where the tag held {now}")
        if state.record.committed != digest:
            state = self._remembered(state, state.record.committed)
        history = state.history if now == digest else (*state.history, digest)
        record = Record(digest, (state.record.generation or state.floor) + 1, claim)
        return state._replace(record=record, history=history)

    def _adopt(self, state: State, digest: str, token: tuple[int, int] | None) -> State:
        """adopt.lua: take what the upstream shows, or finish an armed claim that the caller has seen."""
        committed, _, claim = state.record
        if state.mark == digest and self.variant.adoption_heeds_marks:
            return state
        pending = claim if claim and claim.state == ARMED else None
        own = pending is not None and pending.digest == digest
        if digest in state.late and not own and not committed:
            return state
        if pending is None:
            return state if committed else self._adopted(state, digest)
        if pending.token != token or (not pending.expired and (committed or not own)) or (committed and not own):
            return state
        if own:
            return self._hold(state, digest, may_overwrite=bool(committed))
        return self._adopted(self._remembered(state, pending.digest), digest)

    def _adopted(self, state: State, digest: str) -> State:
        """What the upstream shows and no claim is for."""
        was_deleted = state.history[-1] is None and len(state.history) > 1
        if was_deleted and self.variant.quarantine_holds:
            raise Violation(f"V5: {digest}, sent before the delete, revives the tag")
        return self._hold(state, digest, may_overwrite=False)

    # --- a push of a tag that is free to move

    def _push_free(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Carrier.intend: is it still free?"""
        if state.free:
            yield f"push {number} finds the tag free", state.put(number, actor._replace(at="intend"))
        else:
            yield f"push {number} begins again, guarded", state.put(number, actor._replace(at="claim"))

    def _push_intend(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """intend.lua; a record that the caller did not see stays."""
        committed, _, claim = state.record
        if committed:
            yield f"push {number} finds another record", state.put(number, actor._replace(at="free"))
        elif claim is None or claim.expired:
            dropped = state._replace(record=state.record._replace(claim=None))
            yield f"push {number} intends", dropped.put(number, actor._replace(at="pass"))

    def _push_pass(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        sent = state._replace(sent=state.sent | {Sent("PUT", role.digest, number, FREE)})
        yield f"push {number} sends its PUT unguarded", sent.put(number, actor._replace(at="passed"))

    def _push_passed(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Carrier.send: once more before the answer, is it still free?"""
        if Sent("PUT", role.digest, number, FREE) in state.sent:
            yield f"push {number} answers 503", state.put(number, Actor(DONE))
        elif state.free:
            yield f"push {number}: 201, free", state.put(number, Actor(DONE))
        elif self.variant.settles_again:
            yield f"push {number} is held by now", state.put(number, actor._replace(at="claim"))
        else:
            yield self._answered(state, number, actor, role.digest, "201, as if it were free")

    # --- a push

    def _push_claim(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """claim.lua, and what the guard makes of its answer."""
        committed, generation, claim = state.record
        if committed and actor.over != generation:
            yield from self._push_held(state, number, role, actor)
        elif claim and not claim.expired:
            if claim.state == ARMED and state.upstream is not None:
                helped = self._adopt(state, state.upstream, claim.token)
                if helped != state:
                    yield f"push {number} helps", helped
        elif state.mark != role.digest:
            yield from self._push_take(state, number, role, actor)

    def _push_held(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        committed, generation, _ = state.record
        if committed == role.digest:
            yield self._answered(state, number, actor, role.digest, "201, unchanged")
        elif role.may_follow(committed) and not state.strict:
            yield f"push {number} may overwrite", state.put(number, actor._replace(over=generation))
        else:
            if not any(value not in {None, role.digest} for value in state.history[actor.since :]):
                raise Violation(f"V2: push {number} got 409, and the tag held nothing else")
            yield f"push {number} gets 409", state.put(number, Actor(DONE))

    def _push_take(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """A free tag, or a claim whose lease has ended."""
        claim = state.record.claim
        mine = (number, actor.attempt)
        if claim and claim.state == ARMED and claim.digest != role.digest:
            yield (
                f"push {number} finds a stale claim",
                state.put(number, actor._replace(at="settle", known=claim.token)),
            )
            return
        free = "arm" if self.variant.exclusive else "look"
        kind, next_at = (ARMED, "resume") if claim and claim.state == ARMED else (CLAIMED, free)
        taken = state._replace(record=state.record._replace(claim=Claim(kind, role.digest, mine)))
        if kind == CLAIMED and actor.over != state.record.generation:
            released = state._replace(record=state.record._replace(claim=None))
            yield self._again(released, number, actor, "claimed, but the tag was deleted meanwhile")
            return
        if kind == CLAIMED and actor.over and state.strict:
            if not self.variant.judges_again:
                raise Violation(f"V4: push {number} claims an overwrite that the rules no longer allow")
            yield f"push {number} is judged again and gets 409", state.put(number, Actor(DONE))
            return
        if kind == CLAIMED and actor.over:
            next_at = "arm"
        yield f"push {number}: {kind}", taken.put(number, actor._replace(at=next_at))

    def _push_settle(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Recovery.settle, then the claim that names the token it has resolved."""
        claim = state.record.claim
        if state.upstream is not None:
            known = (actor.known, state.upstream)
            yield f"push {number} sees {state.upstream}", state.put(number, actor._replace(at="adopt", known=known))
        elif claim and claim.token == actor.known and self._is_given_up(state, claim) and state.mark != role.digest:
            taken = state.record._replace(claim=Claim(CLAIMED, role.digest, (number, actor.attempt)))
            next_at = "arm" if actor.over else "look"
            yield (
                f"push {number} replaces a claim after the quarantine",
                state._replace(record=taken).put(number, actor._replace(at=next_at, known=None)),
            )
        else:
            yield f"push {number} looks again", state.put(number, actor._replace(at="claim", known=None))

    def _is_given_up(self, state: State, claim: Claim) -> bool:
        """Its lease has ended, and where the quarantine holds, nothing of it can land."""
        return claim.expired and not (self.variant.quarantine_holds and self._may_land(state, claim.digest))

    def _push_adopt(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        token, digest = actor.known
        adopted = self._adopt(state, digest, token)
        yield self._again(adopted, number, actor, f"adopts {digest}", keep=True)

    def _push_look(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """The probe of a first push."""
        if state.upstream is None or state.upstream in state.late:
            yield f"push {number} sees nothing of the tag", state.put(number, actor._replace(at="arm"))
        else:
            known = (None, state.upstream)
            yield f"push {number} sees {state.upstream}", state.put(number, actor._replace(at="adopt", known=known))

    def _push_arm(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """arm.lua."""
        armed = self._armed(state, number, actor)
        if armed is None:
            yield self._again(state, number, actor, "has lost its claim")
        else:
            yield f"push {number}: ARMED", armed.put(number, actor._replace(at="send"))

    def _push_resume(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Took over an armed claim of its own digest: has it arrived?"""
        armed = self._armed(state, number, actor)
        if armed is None:
            yield self._again(state, number, actor, "has lost its claim")
        else:
            yield f"push {number} resumes", armed.put(number, actor._replace(at="verify", known="resumed"))

    def _armed(self, state: State, number: int, actor: Actor) -> State | None:
        claim = state.record.claim
        if claim is None or claim.token != (number, actor.attempt):
            return None
        return state._replace(record=state.record._replace(claim=claim._replace(state=ARMED, expired=False)))

    def _push_send(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        request = Sent("PUT", role.digest, number, actor.attempt)
        sent = state._replace(sent=state.sent | {request})
        yield f"push {number} sends its PUT", sent.put(number, actor._replace(at="verify", known="sent"))
        released = state._replace(record=self._without(state, number, actor))
        yield f"push {number} is refused by the upstream", released.put(number, Actor(DONE))

    def _push_verify(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """After the answer, or after waiting in vain for one: the request may still be under way."""
        if actor.known == "answered" or state.upstream == role.digest:
            yield f"push {number} verifies", state.put(number, actor._replace(at="commit", known=None))
        elif actor.known == "resumed":
            yield f"push {number} sends again", state.put(number, actor._replace(at="send", known=None))
        else:
            claim = state.record.claim
            record = state.record
            if claim and claim.token == (number, actor.attempt):
                record = record._replace(claim=claim._replace(expired=True))
            yield f"push {number} answers 503", state._replace(record=record).put(number, Actor(DONE))

    def _push_commit(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """commit.lua."""
        committed, _, claim = state.record
        own = claim is not None and claim == (ARMED, role.digest, (number, actor.attempt), claim.expired)
        if own:
            held = self._hold(state, role.digest, may_overwrite=role.may_follow(state.history[-1]))
            yield self._answered(held, number, actor, role.digest, "201, committed")
        elif committed == role.digest:
            yield self._answered(state, number, actor, role.digest, "201, somebody helped")
        else:
            yield self._again(state, number, actor, "has lost its claim before the commit")

    def _without(self, state: State, number: int, actor: Actor) -> Record:
        """release.lua."""
        claim = state.record.claim
        return state.record._replace(claim=None) if claim and claim.token == (number, actor.attempt) else state.record

    def _again(self, state: State, number: int, actor: Actor, why: str, *, keep: bool = False) -> Step:
        """Start again with a new token (`keep`: whatever of the claim is still there stays to be taken over)."""
        if actor.attempt + 1 >= self.attempts:
            return f"push {number} {why}, and answers 503", state.put(number, Actor(DONE))
        record = state.record if keep else self._without(state, number, actor)
        fresh = Actor("claim", attempt=actor.attempt + 1, since=actor.since)
        return f"push {number} {why}", state._replace(record=record).put(number, fresh)

    def _answered(self, state: State, number: int, actor: Actor, value: str | None, what: str) -> Step:
        """Somebody is told `value`."""
        if value not in state.history[actor.since :]:
            raise Violation(f"V1: actor {number} is told {value} ({what}), the tag held {state.history[actor.since :]}")
        return f"actor {number}: {what}", state.put(number, Actor(DONE))

    def _told(self, state: State, number: int, actor: Actor, value: str | None, what: str) -> Step:
        """As `_answered` where nothing says from when on a value is there: it is from the first who is told of it."""
        if value is not None and state.history[-1] is None:
            state = state._replace(history=(*state.history, value))
        if value is not None and value != state.history[-1]:
            raise Violation(f"V1: actor {number} is told {value} ({what}), the tag held {state.history[-1]}")
        return self._answered(state, number, actor, value, what)

    # --- a read

    def _read_read(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Reads.read: the record first."""
        if not self.variant.reads_by_ledger:
            yield self._told(state, number, actor, state.upstream, f"reads {state.upstream}")
        elif self.variant.shared_looks:
            yield f"read {number} gathers", state.put(number, actor._replace(at="gather"))
            for look in state.looks if self.variant.joins_late else ():
                joined = state._replace(looks=state.looks - {look} | {look._replace(readers=look.readers | {number})})
                yield f"read {number} joins a look under way", joined.put(number, actor._replace(at="shared"))
        else:
            yield self._by_record(state, number, actor, state.record)

    def _read_gather(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Until a look begins (`_looks`)."""
        return iter(())

    def _read_shared(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Some time after the look has read."""
        for look in state.looks:
            if number in look.readers and look.seen is not None:
                yield self._by_record(state, number, actor, look.seen)

    def _by_record(self, state: State, number: int, actor: Actor, record: Record) -> Step:
        """What a tag holds is answered, whatever the upstream shows."""
        if record.committed:
            return self._answered(state, number, actor, record.committed, f"reads {record.committed}")
        claim = record.claim if record.claim and record.claim.state == ARMED else None
        return f"read {number} finds no record", state.put(number, actor._replace(at="probe", known=claim))

    def _read_probe(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        claim, seen = actor.known, state.upstream
        if seen is None or (claim and claim.digest != seen):
            yield self._answered(state, number, actor, None, "reads 404")
        else:
            known = (seen, claim.token if claim else None)
            yield f"read {number} sees {seen}", state.put(number, actor._replace(at="adopt", known=known))

    def _read_adopt(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        digest, token = actor.known
        adopted = self._adopt(state, digest, token)
        yield f"read {number} adopts", adopted.put(number, actor._replace(at="look", known=None))

    def _read_look(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        held = state.record.committed
        yield self._answered(state, number, actor, held, f"reads {held or 404}")

    # --- a delete by digest

    def _delete_begin(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """Adopt what the upstream has, then delete_begin.lua."""
        committed, _, claim = state.record
        if not committed and state.upstream is not None and actor.known != "adopted":
            adopted = self._adopt(state, state.upstream, claim.token if claim else None)
            yield f"delete {number} adopts", adopted.put(number, actor._replace(known="adopted"))
            return
        pinned = (claim and claim.digest == role.digest) or (committed == role.digest and not role.may_delete)
        if pinned or state.mark:
            yield f"delete {number} is refused", state.put(number, Actor(DONE))
        else:
            yield f"delete {number} marks", state._replace(mark=role.digest).put(number, actor._replace(at="send"))

    def _delete_send(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        sent = state._replace(sent=state.sent | {Sent("DELETE", role.digest, number, 0)})
        yield f"delete {number} sends", sent.put(number, actor._replace(at="wait"))

    def _delete_wait(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        """delete_end.lua after the answer; without one the mark stays for the sweep."""
        if any(request.actor == number for request in state.sent):
            yield f"delete {number} waits in vain", state.put(number, Actor(DONE))
            return
        ended = state._replace(mark=None)
        if state.record.committed == role.digest and state.upstream != role.digest:
            ended = self._dropped(ended)
        yield f"delete {number} is done", ended.put(number, Actor(DONE))
