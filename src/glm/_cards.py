"""Cards: what an object is, as a small table in a notebook or as aligned lines in a terminal.

Plain tables that a screen reader can walk: a caption, headers with a scope, no scripts, no colour
that carries a meaning of its own. Every text is escaped.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LEFT = ' style="text-align: left; vertical-align: top"'
_CAPTION = ' style="text-align: left; font-weight: bold; white-space: nowrap"'


def html_card(title: str, rows: Mapping[str, object], *, note: str = "") -> str:
    """One object as a table of two columns: what, and its value.

    Rows whose value is ``""`` or ``None`` are left out; ``note`` stands below the table.
    """
    body = "".join(
        f'<tr><th scope="row"{_LEFT}>{escape(name)}</th><td{_LEFT}>{_text(value)}</td></tr>'
        for name, value in _filled(rows).items()
    )
    return _framed(title, f"<tbody>{body}</tbody>", note)


def html_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, note: str = ""
) -> str:
    """Several things of a kind as a table with a header; the first column names the row."""
    head = "".join(f'<th scope="col"{_LEFT}>{escape(name)}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row"{_LEFT}>{_text(first)}</th>'
        + "".join(f"<td{_LEFT}>{_text(value)}</td>" for value in others)
        + "</tr>"
        for first, *others in rows
    )
    return _framed(title, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>", note)


def text_card(title: str, rows: Mapping[str, object], *, note: str = "", width: int = 100) -> str:
    """The same for a terminal: a title, then one aligned line a row, wrapped at ``width``."""
    filled = _filled(rows)
    indent = max((len(name) for name in filled), default=0) + 4
    lines = [title]
    for name, value in filled.items():
        start = f"  {name}".ljust(indent)
        lines.append(wrapped(str(value), width, start, " " * indent))
    return "\n".join([*lines, *([wrapped(note, width, "  ", "  ")] if note else [])])


def wrapped(text: str, width: int, start: str = "", indent: str = "") -> str:
    """The text in lines of at most ``width``: the first begins with ``start``."""
    return textwrap.fill(
        text,
        width,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _filled(rows: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in rows.items() if value is not None and value != ""}


def _text(value: object) -> str:
    return escape(str(value)).replace("\n", "<br>")


def _framed(title: str, inside: str, note: str) -> str:
    below = f"<p>{_text(note)}</p>" if note else ""
    return f"<div><table><caption{_CAPTION}>{escape(title)}</caption>{inside}</table>{below}</div>"
