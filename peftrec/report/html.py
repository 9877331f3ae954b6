"""One self-contained page about a trained and evaluated adapter."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from peftrec.evaluation import Evaluation
from peftrec.report.plots import learning_plot, ranking_plot, reliability_plot

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1c2733;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem;border-bottom:1px solid #dde3ea;padding-bottom:.2rem}
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.25rem .8rem;text-align:left;border-bottom:1px solid #eef1f4}
td.n{text-align:right;font-variant-numeric:tabular-nums}pre{background:#f6f8fa;padding:.8rem;overflow:auto;font-size:.8rem}
.row{display:flex;flex-wrap:wrap;gap:1rem}svg{max-width:100%;height:auto}
"""


def write_report(
    path: str | Path,
    evaluation: Evaluation,
    *,
    title: str,
    facts: Mapping[str, object],
    learning_curve: Sequence[Mapping[str, float]] = (),
    examples: Mapping[str, Sequence[str]] | None = None,
    further: Sequence[Evaluation] = (),
) -> Path:
    """Writes the page.

    Args:
        path: Of the HTML file.
        evaluation: What was measured; its first system is the subject.
        title: Heading.
        facts: Shown as a table.
        learning_curve: Of training, where there is one.
        examples: Heading of a shopper -> lines to show.
        further: Measured beside it, such as on a segment; told in numbers.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    subject = evaluation.systems[0]
    plots = [ranking_plot(evaluation, slice_) for slice_ in evaluation.slices]
    body = [f"<h1>{html.escape(title)}</h1>", _table(facts)]
    for slice_, plot in zip(evaluation.slices, plots, strict=True):
        body += [f"<h2>Ranking: {html.escape(slice_.replace('_', ' '))}</h2>", plot]
    body += [
        "<h2>Probabilities and learning</h2><div class=row>",
        f"<div>{reliability_plot(evaluation, subject)}</div>",
    ]
    if any("eval_loss" in point for point in learning_curve):
        body.append(f"<div>{learning_plot([dict(point) for point in learning_curve])}</div>")
    body.append("</div>")
    for heading, lines in (examples or {}).items():
        body += [f"<h2>{html.escape(heading)}</h2><ul>", *(f"<li>{html.escape(line)}</li>" for line in lines), "</ul>"]
    body += ["<h2>All numbers</h2>", *(f"<pre>{html.escape(str(one))}</pre>" for one in (evaluation, *further))]
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>" + "\n".join(
        body
    )
    Path(path).write_text(page, encoding="utf-8")
    return Path(path)


def _table(facts: Mapping[str, object]) -> str:
    rows = (
        f"<tr><th>{html.escape(str(key))}</th><td>{html.escape(str(value))}</td></tr>" for key, value in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"
