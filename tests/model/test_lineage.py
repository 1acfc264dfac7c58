"""Every way in which a ledger can come back, and what its processes make of it (H105, H106)."""

from __future__ import annotations

import pytest

from tests.model.explore import explore
from tests.model.lineage import Lineage, Variant


@pytest.mark.parametrize(("processes", "losses", "beats"), [(1, 2, 2), (2, 1, 1)])
def test_h105_no_loss_opens_a_delete_and_none_is_told_for_ever(processes: int, losses: int, beats: int) -> None:
    found = explore(Lineage(processes=processes, losses=losses, beats=beats))
    assert not found.broken, "\n".join((found.broken, *found.story))
    assert found.states > 1000


def test_h105_a_beat_alone_is_wrong() -> None:
    found = explore(Lineage(Variant(named=False), processes=1, losses=2))
    assert "V5" in found.broken
    assert {"it is emptied", "the copy is put in"} & set(found.story)


def test_h106_a_lineage_alone_is_wrong() -> None:
    found = explore(Lineage(Variant(history=False), processes=1, losses=1))
    assert "V5" in found.broken
    assert "it loses its last write" in found.story


def test_h105_a_loss_that_does_not_say_which_name_it_ends_is_told_for_ever() -> None:
    found = explore(Lineage(Variant(remembers=False), processes=2, losses=1, beats=1))
    assert "V6" in found.broken
