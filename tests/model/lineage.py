"""How processes notice that the ledger lost something, as a small state machine (`tests.model.explore`).

One tag, which is pushed once and never again.  Processes beat, and try to delete the digest that the tag holds, each by
what it has concluded of the repository: "every tag that the upstream shows has its record".  The ledger is emptied, put
back to a copy, or loses its last write, twice at most, by a start of its server or (but for the last)
in a server that goes on running.

What must hold:

- V5  no DELETE reaches the upstream that takes away what the tag holds;
- V6  a loss is told at most once for each process, so there is no end of rounds.

Left out, because nothing could notice it: a copy that is put into a running server and that is as young as the last
beat of a process, or comes between its look and its step (docs/guarantees.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.model.protocol import Violation

BORN = 1
"""The first name; all processes know it, and have beaten once."""


class Ledger(NamedTuple):
    """`names`: the lineage, newest first.  `record`: whether it knows what the tag holds.  `history`: of its server."""

    names: tuple[int, ...] = ()
    beats: tuple[int, ...] = (0, 0)
    record: bool = False
    history: int = 0


class Process(NamedTuple):
    """What it has seen.  `concluded`: the lineage and history under which it looks, or has `looked`, at all tags."""

    lineage: int = BORN
    beat: int = 1
    concluded: tuple[int, int] | None = None
    looked: bool = False


class State(NamedTuple):
    """The whole world.  `before`: the ledger without its last write; `named`: how many names were given."""

    ledger: Ledger
    before: Ledger
    copy: Ledger | None
    tag: bool
    processes: tuple[Process, ...]
    losses: int = 0
    named: int = BORN

    def wrote(self, ledger: Ledger) -> State:
        """The same world after a write."""
        return self._replace(ledger=ledger, before=self.ledger) if ledger != self.ledger else self

    def put(self, number: int, process: Process) -> State:
        """The same world, with one process somewhere else."""
        return self._replace(processes=(*self.processes[:number], process, *self.processes[number + 1 :]))

    def lost(self, ledger: Ledger, *, started: bool) -> State:
        """Another ledger in its place."""
        history = self.ledger.history + started
        put_in = ledger._replace(history=history)
        return self._replace(ledger=put_in, before=put_in, losses=self.losses + 1)


@dataclass(frozen=True)
class Variant:
    """`named`: off, losses are only counted, and seen where the beat goes back.  `remembers`: off, a new name does not
    come with those before it.  `history`: off, a delete does not ask whether the server was started anew.
    """

    named: bool = True
    remembers: bool = True
    history: bool = True


class Lineage:
    """The transitions."""

    def __init__(self, variant: Variant = Variant(), *, processes: int, losses: int, beats: int = 2) -> None:
        """`processes`: one or two.  `beats`: how often each may beat, counted from when the ledger was emptied."""
        self.variant = variant
        self.processes = processes
        self.losses = losses
        self.beats = beats

    def start(self, upstream: str | None = None) -> State:
        """Before anything happened."""
        born = Ledger((BORN,), (1, 1))
        return State(born, born, None, tag=False, processes=(Process(),) * self.processes)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Everything that may happen next; raises `Violation` where that breaks a promise."""
        if state.named > BORN + self.processes * state.losses:
            raise Violation("V6: losses are told again and again")
        yield from self._world(state)
        for number, process in enumerate(state.processes):
            if state.ledger.beats[number] < self.beats:
                yield f"{number} beats", self._looked(state, number, beats=True)
            if not process.concluded:
                yield f"{number} begins to look at all tags", self._begun(state, number)
            elif not process.looked:
                yield f"{number} has looked at all tags", self._adopted(state, number)
            else:
                yield self._deleted(state, number)
        if not state.tag:
            pushed = self._looked(state, 0)
            yield "the tag is pushed", pushed.wrote(pushed.ledger._replace(record=True))._replace(tag=True)

    def _world(self, state: State) -> Iterator[tuple[str, State]]:
        if state.copy is None:
            yield "a copy is made", state._replace(copy=state.ledger)
        if state.losses == self.losses:
            return
        yield "it comes up empty", state.lost(Ledger(), started=True)
        yield "it is emptied", state.lost(Ledger(), started=False)
        yield "it loses its last write", state.lost(state.before, started=True)
        if state.copy is not None:
            yield "it comes up with the copy", state.lost(state.copy, started=True)
            if all(_is_older(state.copy, number, process) for number, process in enumerate(state.processes)):
                yield "the copy is put in", state.lost(state.copy, started=False)

    # --- look.lua

    def _looked(self, state: State, number: int, *, beats: bool = False) -> State:
        ledger, process = state.ledger, state.processes[number]
        fault = self._fault(ledger, number, process)
        named = state.named
        if fault in {"FOREIGN", "OLDER"}:
            named += 1
            more = () if process.lineage in ledger.names else (process.lineage,)
            counted = (max(ledger.names, default=BORN) + 1,)
            before = (*more, *ledger.names) if self.variant.remembers else ()
            names = (named, *before) if self.variant.named else counted
            ledger = ledger._replace(names=names)
        if beats:
            own = ledger.beats[number] + 1
            ledger = ledger._replace(beats=(*ledger.beats[:number], own, *ledger.beats[number + 1 :]))
        beat = ledger.beats[number] if beats else 0 if fault else process.beat
        lineage = ledger.names[0] if ledger.names else BORN
        seen = process._replace(lineage=lineage, beat=beat)
        return state.wrote(ledger)._replace(named=named).put(number, seen)

    def _fault(self, ledger: Ledger, number: int, process: Process) -> str:
        if self.variant.named and ledger.names[:1] != (process.lineage,):
            return "TOLD" if process.lineage in ledger.names else "FOREIGN"
        return "OLDER" if ledger.beats[number] < process.beat else ""

    # --- a delete by digest

    def _under(self, state: State, number: int) -> tuple[int, int]:
        return state.processes[number].lineage, state.ledger.history if self.variant.history else 0

    def _begun(self, state: State, number: int) -> State:
        looked = self._looked(state, number)
        return looked.put(number, looked.processes[number]._replace(concluded=self._under(looked, number)))

    def _adopted(self, state: State, number: int) -> State:
        adopted = state.wrote(state.ledger._replace(record=state.ledger.record or state.tag))
        return adopted.put(number, state.processes[number]._replace(looked=True))

    def _deleted(self, state: State, number: int) -> tuple[str, State]:
        """The look and delete_begin.lua."""
        looked = self._looked(state, number)
        process = looked.processes[number]
        if process.concluded != self._under(looked, number):
            return f"{number} has to look again", looked.put(number, process._replace(concluded=None, looked=False))
        if looked.ledger.record:
            return f"{number} is refused", looked
        if looked.tag:
            raise Violation(f"V5: the DELETE of {number} takes away what the tag holds")
        return f"{number} deletes nothing", looked


def _is_older(copy: Ledger, number: int, process: Process) -> bool:
    """Whether the process sees that for itself."""
    return copy.names[:1] != (process.lineage,) or copy.beats[number] < process.beat
