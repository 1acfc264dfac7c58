"""Two protocols that people write first, and which are wrong: the checks of `tests.model.protocol` show where."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.protocol import ARMED, DONE, Actor, Claim, Protocol, Record, Role, Sent, State, Step


class Naive(Protocol):
    """Reads pass through; whoever is told something first makes it the tag's value."""

    def _world(self, state: State) -> Iterator[Step]:
        """No message is lost here: that is not what is wrong with them."""
        return ((label, following) for label, following in super()._world(state) if not label.endswith("is lost"))

    def _read_read(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        yield self._told(state, number, actor, state.upstream, f"reads {state.upstream}")

    def _push_send(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        sent = state._replace(sent=state.sent | {Sent("PUT", role.digest, number, 0)})
        yield f"push {number} sends", sent.put(number, actor._replace(at="wait"))

    def _push_wait(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        if not any(request.actor == number for request in state.sent):
            yield self._told(self._done(state, role), number, actor, role.digest, "201")

    def _done(self, state: State, role: Role) -> State:
        return state


class HeadThenPut(Naive):
    """Ask whether the tag is there; if not, push."""

    def _push_claim(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        if state.upstream in {None, role.digest}:
            yield f"push {number} sees {state.upstream}", state.put(number, actor._replace(at="send"))
        else:
            yield f"push {number} gets 409", state.put(number, Actor(DONE))


class LeaseOnly(Naive):
    """Take a lock that ends by itself, ask whether the tag is there, push, and write down that it is done."""

    def _push_claim(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        committed, _, claim = state.record
        if committed:
            yield f"push {number} gets 409 or 201", state.put(number, Actor(DONE))
        elif claim is None or claim.expired:
            locked = Record(None, 0, Claim(ARMED, role.digest, (number, 0)))
            yield f"push {number} locks", state._replace(record=locked).put(number, actor._replace(at="look"))

    def _push_look(self, state: State, number: int, role: Role, actor: Actor) -> Iterator[Step]:
        found = state.upstream not in {None, role.digest}
        yield f"push {number} sees {state.upstream}", state.put(number, Actor(DONE) if found else Actor("send"))

    def _done(self, state: State, role: Role) -> State:
        return state._replace(record=Record(role.digest, 1, None))
