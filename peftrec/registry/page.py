"""The adapter's card as a page: one file that loads nothing, in which every text from outside is escaped."""

from typing import Any

from peftrec.registry import words
from peftrec.registry.manifest import Manifest
from peftrec.registry.markup import bullets, code, facts, paragraphs, safe, section, table
from peftrec.registry.measured import headline, measured
from peftrec.registry.plots import curve_plot, reliability_plot
from peftrec.registry.strict import CLEANING
from peftrec.registry.style import STYLE

_COUNTS = ("shoppers", "products", "events", "promotions")
_NAMES = {"dataset": "Data set", "source": "Source", "note": "Note"}
_SHOWN_APART = {CLEANING, "licence", "start", "end", "digest", *_COUNTS, *_NAMES}
_MOST_CURVES = 4
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""For the browser: even a text that was not escaped could load and run nothing."""


def page(manifest: Manifest) -> str:
    """HTML of a version's card; the same manifest always gives the same page."""
    body = [
        _head(manifest),
        section("Trained on", _trained(manifest)),
        section("Cleaning", _cleaning(manifest.data.get(CLEANING))),
        section("Measured", measured(manifest)),
        section("Can its probabilities be believed?", _reliability(manifest)),
        section("Learning", _learning(manifest)),
        section("Speed", _latency(manifest)),
        section("Limits", [bullets(words.limits(manifest))]),
        section("Load it", _use(manifest)),
        section("What it is made of", _made(manifest)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(manifest.name)}, version {safe(manifest.version)}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n<footer>Written by peftrec when this version was published. All numbers are in <code>manifest.json</code>,"
        " beside this file.</footer>\n</main>\n</body>\n</html>\n"
    )


def _head(manifest: Manifest) -> str:
    method, data = words.method(manifest), manifest.data.get("dataset")
    size = words.size(sum(words.own_files(manifest).values()))
    lead = (
        f"{words.article(method).capitalize()} {safe(method)} adapter of {size} that predicts what shoppers buy next. It stands"
        f" on the top {manifest.decoder_layers:,} layers of <strong>{safe(manifest.base_model)}</strong>"
        + (f" and was trained on <strong>{safe(data)}</strong>." if data else ".")
    )
    return (
        f'<header>\n<p class="kind">peftrec adapter</p>\n<h1>{safe(manifest.name)}'
        f' <small>version {safe(manifest.version)}</small></h1>\n<p class="lead">{lead}</p>\n{headline(manifest)}\n</header>'
    )


def _trained(manifest: Manifest) -> list[str]:
    data = manifest.data
    counts = [(name, data[name]) for name in _COUNTS if data.get(name) is not None]
    tiles = "".join(f'<div class="count"><b>{safe(words.shown(n))}</b><span>{name}</span></div>' for name, n in counts)
    rows = [(told, safe(words.shown(data[name]))) for name, told in _NAMES.items() if data.get(name) not in (None, "")]
    if told := words.period(data):
        rows.append(("Time range", safe(told)))
    rows.append(("Licence of the data", safe(words.licence(manifest))))
    rows += [(safe(name), safe(words.shown(value))) for name, value in data.items() if name not in _SHOWN_APART]
    rows += [
        ("Privacy", safe(words.privacy(manifest))),
        ("Seed", str(manifest.seed)),
        ("Published", safe(words.day(manifest.created))),
    ]
    if data.get("digest"):
        rows.append(("Digest of the data", f"<code>{safe(data['digest'])}</code>"))
    return [*([f'<div class="row">{tiles}</div>'] if tiles else []), facts(rows), _lineage(manifest)]


def _lineage(manifest: Manifest) -> str:
    parent = f'<li class="to">→</li><li>{safe(manifest.parent)}</li>' if manifest.parent else ""
    told = "Training continued from" if parent else "Trained from the backbone; it continues no earlier version"
    return (
        f'<h3>Lineage</h3>\n<p class="note">{told}{f" {safe(manifest.parent)}" if parent else ""}.</p>\n<ul class="path">'
        f'<li>{safe(manifest.base_model)}</li>{parent}<li class="to">→</li>'
        f"<li>{safe(manifest.name)}@{safe(manifest.version)}</li></ul>"
    )


def _cleaning(told: dict[str, Any] | None) -> list[str]:
    if told is None:
        return ["<p>Nothing is known of how the data was cleaned.</p>"]
    share = min(told["rows_kept"], told["rows_in"]) / max(told["rows_in"], 1)
    parts = [
        f"<p>Of {words.shown(told['rows_in'])} events of the whole data set, {words.shown(told['rows_kept'])} were kept.</p>",
        f'<div class="bar" role="img" aria-label="{share:.1%} kept"><span style="width:{100 * share:.2f}%"></span></div>',
    ]
    if rules := [rule for rule in told["rules"] if rule["rows"]]:
        rows = [
            (
                safe(rule["rule"].replace("_", " ")),
                safe(rule["action"]),
                words.shown(rule["rows"]),
                f"{rule['share']:.2%}",
                f"<code>{safe(rule['example'])}</code>" if rule["example"] else "",
            )
            for rule in rules
        ]
        parts.append(table(("rule", "what was done", "rows", "share", "example"), rows, numbers=(2, 3)))
    if told["switched_off"]:
        names = ", ".join(name.replace("_", " ") for name in told["switched_off"])
        parts.append(f'<p class="note">Switched off: {safe(names)}.</p>')
    return parts


def _reliability(manifest: Manifest) -> list[str]:
    sentences = words.calibration(manifest)
    if not sentences:
        return ["<p>Not measured: take its probabilities as an order, not at their word.</p>"]
    groups = words.groups(manifest)
    if not groups:
        return [paragraphs(sentences)]
    plot = reliability_plot(groups, told=" ".join(sentences))
    note = (
        "On the dashed line promises are kept exactly; above it, more is bought. Larger dots hold more predictions;"
        " both axes are stretched near 0, where most products are."
    )
    return [f'<div class="wide"><figure>{plot}</figure><div>{bullets(sentences)}<p class="note">{note}</p></div></div>']


def _learning(manifest: Manifest) -> list[str]:
    found = words.series(manifest)
    if not found:
        return ["<p>No learning curve was kept.</p>"]
    told = words.learning(manifest)[:_MOST_CURVES]
    plots = [
        curve_plot(points, title=words.series_name(name), told=sentence, best=name.startswith("eval"))
        for (name, points), sentence in zip(found.items(), told, strict=False)
    ]
    parts = [paragraphs(told), f'<div class="wide">{"".join(f"<figure>{plot}</figure>" for plot in plots)}</div>']
    if len(found) > _MOST_CURVES:
        parts.append(f'<p class="note">{len(found) - _MOST_CURVES} more are in the manifest.</p>')
    return parts


def _latency(manifest: Manifest) -> list[str]:
    rows = words.latency(manifest)
    if not rows:
        return ["<p>Nobody measured how fast it answers.</p>"]
    return [facts((safe(name), safe(value)) for name, value in rows)]


def _use(manifest: Manifest) -> list[str]:
    parts = ["<h3>In peftrec</h3>", code(words.with_peftrec(manifest))]
    if (snippet := words.with_peft(manifest)) is None:
        return [*parts, '<p class="note">peft cannot open this kind of adapter; peftrec can.</p>']
    return [*parts, "<h3>The tuner alone, in peft</h3>", code(snippet)]


def _made(manifest: Manifest) -> list[str]:
    prints = manifest.fingerprints
    return [
        facts(
            [
                ("Method", f"{safe(words.method(manifest))}, {words.ranks(manifest)}"),
                ("Tensors", f"{len(manifest.tensors):,}"),
                ("Libraries", safe(words.libraries(manifest))),
            ]
        ),
        "<h3>Files</h3>",
        table(
            ("file", "size", "sha256"),
            [
                (safe(file), words.size(size), f"<code>{safe(manifest.files[file].sha256)}</code>")
                for file, size in words.own_files(manifest).items()
            ],
            numbers=(1,),
        ),
        "<h3>Fingerprints it must be served with</h3>",
        table(
            ("of", "sha256"),
            [
                (name, f"<code>{safe(digest)}</code>")
                for name, digest in (
                    ("backbone", prints.backbone),
                    ("tokenizer", prints.tokenizer),
                    ("templates", prints.template),
                )
            ],
        ),
    ]
