"""What moves by itself moves only for those who have not asked for less motion."""

from __future__ import annotations

import re

import pytest

from immuproxy.console.assets import STATIC, TEMPLATES

MOVES = re.compile(r"\b(?:transition|animation)(?:-[a-z]+)?\s*:|@keyframes|scroll-behavior\s*:|@view-transition")
SCRIPTED = re.compile(
    r"\.animate\(|behavior:\s*[\"']smooth|startViewTransition|\.style\.(?:transition|animation)|<animate"
)
ALLOWED = re.compile(r"@media\s*\(prefers-reduced-motion:\s*no-preference\)\s*\{")


def always(css: str) -> str:
    """The rules that hold for everybody: without comments, and without the blocks for those who do not mind motion."""
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    while found := ALLOWED.search(css):
        depth, end = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(css[end], 0)
            end += 1
        css = css[: found.start()] + css[end:]
    return css


def text_of(name: str) -> str:
    return STATIC[name].body.decode()


@pytest.mark.parametrize("name", [name for name in STATIC if name.endswith(".css")])
def test_a_stylesheet_moves_nothing_for_those_who_asked_for_less_motion(name: str) -> None:
    assert MOVES.findall(always(text_of(name))) == []


def test_neither_script_nor_drawing_nor_template_moves_anything() -> None:
    others = {name: text_of(name) for name in STATIC if not name.endswith(".css")} | TEMPLATES
    assert [name for name, text in others.items() if SCRIPTED.search(text) or "<style" in text] == []


def test_motion_outside_of_such_a_block_is_found() -> None:
    block = (
        "@media (prefers-reduced-motion: no-preference) { .a { animation: x 1s; } @keyframes x { from { top: 0 } } }"
    )
    assert MOVES.findall(always(block)) == []
    assert MOVES.findall(always(f"{block} .b {{ transition: top 1s; }}")) == ["transition:"]
    assert MOVES.search(always(text_of("base.css"))) is None
    assert MOVES.search(text_of("base.css")), "there is something to look at"
