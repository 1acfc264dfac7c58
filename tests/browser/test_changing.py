"""Trying rules, and allowing and ending an exception, in a browser; with and without JavaScript."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.test_accessibility import AXE, SERIOUS
from tests.console.logging_in import ADMINISTRATOR

SCRIPTED = pytest.mark.parametrize("scripted", [True, False], ids=["with-script", "without-script"])


@SCRIPTED
def test_edited_rules_are_tried_on_the_past(open_page: Open, scripted: bool) -> None:
    page = open_page("/rules", java_script_enabled=scripted)
    box = page.get_by_label("Rules to try")
    assert "secret" not in box.input_value()
    box.fill(box.input_value().replace("[latest, main,", "[latest,"))
    page.get_by_role("button", name="Replay").click()
    expect(page.locator("#changed")).to_contain_text("verdicts would change")
    rows = page.locator("#difference-rows tr")
    expect(rows.first).to_contain_text("moving-tags line 9")
    assert int(page.locator("#changed").inner_text().split()[0]) == rows.count()
    expect(page.locator("#running")).to_be_hidden()


@SCRIPTED
def test_a_wrong_file_is_told_line_by_line(open_page: Open, tmp_path: Path, scripted: bool) -> None:
    file = tmp_path / "new.yml"
    file.write_text("default: imutable\nrules:\n  - {name: a, polcy: frozen}\n")
    page = open_page("/rules/what-if", java_script_enabled=scripted)
    page.get_by_label("or a file").set_input_files(file)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("alert")).to_contain_text("line 1:10")
    expect(page.get_by_role("alert")).to_contain_text('did you mean "immutable"?')
    expect(page.locator(".problems code").first).to_have_text("default: imutable")


@SCRIPTED
def test_an_administrator_allows_an_overwrite_and_ends_it(open_as: Open, scripted: bool) -> None:
    tag = f"team/{'scripted' if scripted else 'plain'}:9.0"
    page = open_as(ADMINISTRATOR, f"/exceptions?tag={tag}", java_script_enabled=scripted)
    page.get_by_label("For how long").fill("40d")
    page.get_by_label("Why").fill("the key leaked")
    page.get_by_role("button", name="Allow it").click()
    expect(page.locator("#for-wrong")).to_contain_text("at most")
    expect(page.get_by_label("Why")).to_have_value("the key leaked")
    page.get_by_label("For how long").fill("2h")
    page.get_by_label("Why").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text(f"{tag} may be overwritten now")
    page.get_by_role("button", name=f"End now: the exception for {tag}").click()
    expect(page.get_by_role("status").first).to_contain_text(f"The exception for {tag} has ended")
    expect(page.get_by_role("button", name=f"End now: the exception for {tag}")).to_have_count(0)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_no_serious_violation_where_an_administrator_works(open_as: Open, look: str) -> None:
    page = open_as(ADMINISTRATOR, "/exceptions", bypass_csp=True, color_scheme=look)
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")
    assert not [each["id"] for each in found["violations"] if each["impact"] in SERIOUS]
    assert len(found["passes"]) > 10
