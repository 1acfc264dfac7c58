"""What the templates know besides the values of their page: how things are worded, drawn and linked."""

from __future__ import annotations

from functools import cache

import jinja2

from immuproxy.audit.search import Search
from immuproxy.console import drawing, links, wording
from immuproxy.console.assets import STATIC, TEMPLATES

_WORDINGS = (
    wording.tone,
    wording.shape,
    wording.action,
    wording.actor_source,
    wording.short_digest,
    wording.size,
    wording.count,
    wording.iso,
    wording.exact,
    wording.moment,
    wording.short_moment,
    wording.scale_number,
    wording.short_media_type,
    wording.left,
    wording.ago,
    wording.duration,
)
_LINKS = (
    links.repository_url,
    links.tag_url,
    links.manifest_url,
    links.compare_url,
    links.event_url,
    links.search_url,
    links.with_query,
)


def narrowed(search: Search, key: str, value: str, *, exclude: bool = False) -> str:
    """The search of a click on a value, as text."""
    return search.with_term(key, value, exclude=exclude).to_text()


@cache
def environment() -> jinja2.Environment:
    """The templates of the console.  They hold nothing of an application, so all share what is compiled once."""
    made = jinja2.Environment(
        loader=jinja2.DictLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {function.__name__: function for function in _WORDINGS}
    made.globals |= {function.__name__: function for function in (*_LINKS, narrowed, drawing.share)}
    made.globals |= {
        "asset": lambda name: STATIC[name].url,
        "draw_chart": drawing.chart,
        "draw_glyph": drawing.glyph,
        "draw_life": drawing.life,
        "everything": Search(),
    }
    return made
