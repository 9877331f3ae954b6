"""A look at a file as text, for terminals of 100 columns."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from peftrec.data.cleaning.report import RuleCount
from peftrec.data.inspection.guess import REQUIRED

if TYPE_CHECKING:
    from peftrec.data.inspect import ColumnLook, Inspection

WIDTH = 100
_TABLES = {
    "events": "events of shoppers",
    "catalogue": "a catalogue of products",
    "profiles": "profiles of shoppers",
    "promotions": "promotions of products",
}
_NAME, _TYPE, _BECOMES, _EXAMPLES = 24, 12, 15, 27


def shown(found: "Inspection") -> str:
    """All of it, one part after the other."""
    parts = [_head(found), _columns(found)]
    if found.problems:
        parts.append(_section("peftrec would not read the file as it is", found.problems))
    if found.changes:
        told = [
            f"{change.column}{f' ({change.becomes})' if change.becomes else ''}: {change.found}"
            + (f"\nbut: {change.doubt}" if change.doubt else "")
            + f"\n{_code(change.code) if change.code else f'drop it: .drop({change.column!r})'}"
            for change in found.changes
        ]
        parts.append(_section("To change first; the code below does it", told))
    if found.missing:
        told = [
            f"{ours}: no column looks like it; put its name where the code says '<your column>'"
            for ours in found.missing
        ]
        parts.append(_section("Missing", told))
    if found.refused:
        parts.append(_section("After that it would still be refused", [found.refused]))
    if found.cleaning is not None:
        parts.append(str(found.cleaning))
    elif found.products:
        parts.append(_rules(found.products))
    if found.notes:
        parts.append(_section("Notes", found.notes))
    return "\n\n".join([*parts, f"The call, with what was guessed; check it:\n\n{textwrap.indent(found.call, '    ')}"])


def _code(text: str) -> str:
    """Only what fits into a line: broken in two it could not be pasted."""
    return text if len(text) <= WIDTH - 4 else "by the expression in the code below"


def _head(found: "Inspection") -> str:
    total = f" of {found.total:,}" if found.total is not None and found.total != found.rows else ""
    first = "the first " if found.total is None or found.total != found.rows else ""
    lines = [
        f"{first}{found.rows:,}{total} rows, {len(found.columns)} columns, {found.form} ({_bytes(found.size)})",
        _verdict(found),
    ]
    return "\n".join([*_wrapped(f"{found.path}:", ""), *(line for text in lines for line in _wrapped(text, ""))])


def _verdict(found: "Inspection") -> str:
    required = len(found.missing) + sum(column.becomes in REQUIRED[found.table] for column in found.columns)
    if len(found.missing) == required:
        return f"It looks like no table that peftrec knows; the code below takes it for {_TABLES[found.table]}"
    return f"It looks like {_TABLES[found.table]}: {found.why}"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def _columns(found: "Inspection") -> str:
    lines = [
        f"{'column':<{_NAME}} {'type':<{_TYPE}} {'missing':>7} {'distinct':>9} {'becomes':<{_BECOMES}} examples",
        "-" * WIDTH,
    ]
    for column in found.columns:
        lines += [_row(column), *_wrapped(column.why, "    ")]
    return "\n".join(lines)


def _row(column: "ColumnLook") -> str:
    distinct = "" if column.distinct is None else f"{column.distinct:,}"
    becomes = column.becomes or ("-" if column.why == "has to be dropped" else "an attribute")
    return (
        f"{_fit(column.name, _NAME)} {_fit(column.dtype, _TYPE)} {column.missing:>7.1%} {distinct:>9}"
        f" {_fit(becomes, _BECOMES)} {_fit(', '.join(column.examples), _EXAMPLES)}"
    ).rstrip()


def _fit(text: str, width: int) -> str:
    """Text in that many columns of a terminal, cut where it is longer."""
    text = "".join(mark if mark.isprintable() else " " for mark in text)
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"


def _section(title: str, entries: Sequence[str]) -> str:
    lines = [f"{title}:"]
    for entry in entries:
        for number, line in enumerate(entry.splitlines()):
            lines += _wrapped(line, "    ", first="    " if number else "  - ")
    return "\n".join(lines)


def _wrapped(text: str, indent: str, *, first: str | None = None) -> list[str]:
    printable = "".join(mark if mark.isprintable() else " " for mark in text)
    return textwrap.wrap(
        printable,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _rules(counts: Sequence[RuleCount]) -> str:
    lines = ["What cleaning would do to the products (rows count from 0):"]
    for count in counts:
        told = f"  {count.rule:<22}{count.rows:>10,} {count.action}"
        lines += _wrapped(told + (f", such as {count.example}" if count.example else ""), "    ")
    return "\n".join(lines)
