"""The few elements that a card's page is made of. Arguments are HTML already unless said otherwise."""

from collections.abc import Collection, Iterable
from html import escape

from peftrec.registry.words import plain


def safe(value: object) -> str:
    """A text from outside as HTML: no character of it means anything to a browser."""
    return escape(plain(value))


def section(title: str, content: Iterable[str]) -> str:
    """A part of the page."""
    return f"<section>\n<h2>{title}</h2>\n" + "\n".join(content) + "\n</section>"


def paragraphs(sentences: Iterable[str]) -> str:
    """Sentences as one paragraph; they are texts from outside."""
    return f"<p>{' '.join(safe(sentence) for sentence in sentences)}</p>"


def bullets(sentences: Iterable[str]) -> str:
    """Sentences as a list; they are texts from outside."""
    return f'<ul class="list">{"".join(f"<li>{safe(sentence)}</li>" for sentence in sentences)}</ul>'


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values."""
    return f'<dl class="facts">{"".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)}</dl>'


def table(heads: Collection[str], rows: Iterable[Collection[str]], *, numbers: Collection[int] = ()) -> str:
    """A table; cells of the columns ``numbers`` stand to the right. A wide one scrolls in itself, not with the page."""
    body = "".join(_row("td", row, numbers) for row in rows)
    head = _row("th", heads, numbers)
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def code(text: str) -> str:
    """A block of code; the text is from outside, but for its line breaks."""
    return f"<pre><code>{chr(10).join(safe(line) for line in text.splitlines())}</code></pre>"


def _row(tag: str, cells: Iterable[str], numbers: Collection[int]) -> str:
    kinds = (' class="n"' if at in numbers else "" for at, _ in enumerate(cells))
    return f"<tr>{''.join(f'<{tag}{kind}>{cell}</{tag}>' for cell, kind in zip(cells, kinds, strict=True))}</tr>"
