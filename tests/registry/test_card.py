"""The cards: what they tell, that they load and run nothing, and that the same adapter has the same ones."""

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftrec.errors import RegistryError
from peftrec.registry import Manifest, Registry
from peftrec.registry.card import card
from peftrec.registry.page import page
from peftrec.registry.plots import Axis

Make = Callable[..., Any]
SHIPPED = Path(__file__).parents[2] / "adapters"
VOID = {"meta", "col", "br", "img", "link", "input", "hr"}
LOADING = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "formaction"}
ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "h1", "h2", "h3", "p"),
    *("ul", "li", "dl", "dt", "dd", "div", "span", "b", "i", "strong", "small", "code", "pre", "figure"),
    *(
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "colgroup",
        "col",
        "svg",
        "desc",
        "line",
        "circle",
        "polyline",
        "text",
    ),
}
HOSTILE = (
    "</style></title><script>alert(1)</script><img src=http://e.vil/x onerror=alert(1)>"
    "\"' &amp; `x` [y](http://e.vil) |\n# z"
)
RICH: dict[str, Any] = {
    "learning_curve": [
        {"step": 20, "loss": 0.9},
        {"step": 36, "eval_loss": 0.07},
        {"step": 40, "loss": 0.8},
        {"step": 44},
    ],
    "reliability": [
        {"predicted": 0.01, "observed": 0.012, "count": 500},
        {"predicted": 0.2, "observed": 0.19, "count": 500},
        {"predicted": 0.0, "observed": 0.0, "count": 0},
    ],
    "latency": {"p50_ms": 3.5, "p99_ms": 9.25, "machine": "two cores"},
    "metrics": [
        {"metric": "ndcg@10", "slice": "all", "value": 0.25, "low": 0.2, "high": 0.3},
        {"metric": "ndcg@10", "slice": "never_bought", "value": 0.05, "low": None, "high": None},
        {"metric": "ece", "slice": "all", "value": 0.002, "low": 0.001, "high": 0.004},
    ],
    "data": {
        "dataset": "tea",
        "source": "a shop",
        "licence": "CC BY 4.0",
        "start": "2026-01-01T00:00:00+00:00",
        "end": "2026-03-01T12:00:00+00:00",
        "shoppers": 1200,
    },
}


class Page(HTMLParser):
    """Reads a page strictly: every element is closed, in order, and it is known what it holds."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.policy = ""
        self.feed(content)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        assert len({name for name, _ in attrs}) == len(attrs)
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"] or ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        assert self.open.pop() == tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def _checked(content: str) -> Page:
    """Well-formed, and nothing that loads or runs."""
    found = Page(content)
    assert found.open == []
    assert set(found.tags) <= ALLOWED
    names = {name for name, _ in found.attributes}
    assert not names & LOADING
    assert not [name for name in names if name.startswith("on")]
    assert found.policy.startswith("default-src 'none'")
    style = content[content.index("<style>") : content.index("</style>")]
    assert not re.search(r"url\(|@import|expression|https?:", style)
    for plot in re.findall(r"<svg.*?</svg>", content, re.DOTALL):
        ElementTree.fromstring(plot)
    return found


def _manifest(registry: Registry, small: Make, **facts: object) -> Manifest:
    return registry.publish("tea", small(**facts)).manifest


@pytest.fixture
def rich(registry: Registry, small: Make) -> Manifest:
    return _manifest(registry, small, **RICH)


def test_both_cards_are_written_and_sealed(registry: Registry, small: Make) -> None:
    version = registry.publish("tea", small(**RICH), alias="production")
    assert version.read("card.html").decode() == page(version.manifest)
    assert version.read("card.md").decode() == card(version.manifest)
    assert registry.verify() == []
    with (version.path / "card.html").open("ab") as file:
        file.write(b"<script src=//e.vil></script>")
    assert any("card.html" in problem for problem in registry.verify())


def test_the_page_tells_all_it_knows(rich: Manifest) -> None:
    found = _checked(page(rich))
    for told in (
        "A LoRA adapter of 325 bytes that predicts what shoppers buy next.",
        "NDCG@10 0.250 0.200 – 0.300",
        "Calibration error 0.0020 0.0010 – 0.0040",
        "1,200 shoppers",
        "Licence of the data CC BY 4.0",
        "1 January 2026 to 1 March 2026, 60 days",
        "products new to the shopper NDCG@10, products new to the shopper: 0.0500",
        "Over 1,000 predictions it promises 10.5% on average, and 10.1% were bought.",
        "Where it is surest it promises 20.0%, and 19.0% were bought.",
        "Training loss ended at 0.800 (step 40), its lowest.",
        "Loss on held-out shoppers ended at 0.0700 (step 36).",
        "p99 9.25 ms",
        "machine two cores",
        "up to 1 March 2026",
        'engine.attach(dataset, adapter="tea@1")',
        'PeftModel.from_pretrained(bert, "adapters/tea/1")',
        "rank 2 in 1 map",
        *(entry.sha256 for file, entry in rich.files.items() if not file.startswith("card")),
        rich.fingerprints.backbone,
        rich.fingerprints.tokenizer,
        rich.fingerprints.template,
    ):
        assert told in found.text, told


def test_every_plot_says_in_words_what_it_shows(rich: Manifest) -> None:
    pictures = [
        plot for plot in re.findall(r"<svg.*?</svg>", page(rich), re.DOTALL) if 'aria-hidden="true"' not in plot
    ]
    assert len(pictures) == 3 + 2 + 1
    for plot in pictures:
        root = ElementTree.fromstring(plot)
        assert root.get("role") == "img"
        assert root.findtext("title")
        assert root.get("class") == "strip" or root.findtext("desc")


def test_dots_stand_where_their_numbers_are(rich: Manifest) -> None:
    content = page(rich)
    panel = content[content.index("<h3>NDCG@10</h3>") :]
    # The axis of 0 to 0.3: a value of 0.25, its interval from 0.2 to 0.3, and below it a value of 0.05 without one.
    assert re.findall(r'cx="([\d.]+)%"', panel)[:2] == ["83.33", "16.67"]
    assert '<line class="whisker" x1="66.67%" x2="100.00%"' in panel
    assert re.findall(r'text-anchor="middle">([\d.]+)<', panel)[:4] == ["0.0", "0.1", "0.2", "0.3"]


def test_what_is_not_known_is_said_in_a_sentence(registry: Registry, small: Make) -> None:
    manifest = _manifest(registry, small, data={}, metrics=[], versions={}, ranks={}, method="head_only")
    found = _checked(page(manifest))
    assert "svg" not in found.tags
    for told in (
        "Not evaluated before it was published.",
        "Nothing is known of how the data was cleaned.",
        "Not measured: take its probabilities as an order",
        "No learning curve was kept.",
        "Nobody measured how fast it answers.",
        "not stated: ask before you pass the adapter on",
        "it continues no earlier version",
        "peft cannot open this kind of adapter",
    ):
        assert told in found.text, told


def test_lineage_and_privacy(registry: Registry, small: Make) -> None:
    registry.publish("tea", small())
    version = registry.publish("tea", small(privacy={"epsilon": 4.0, "delta": 1e-5}), parent="tea@1")
    text = _checked(version.read("card.html").decode()).text
    assert "Training continued from tea@1." in text
    assert "minilm-l6 → tea@1 → tea@2" in text
    assert "differentially private, ε = 4, δ = 1e-05" in text
    assert "Nothing bounds" not in text
    assert "| parent | tea@1 |" in version.read("card.md").decode()


@pytest.mark.parametrize(
    ("method", "opens"),
    [
        ("lora", True),
        ("adalora", True),
        ("lora (cross-encoder)", False),
        ("bottleneck", False),
        ("head_only", False),
        ("full", False),
    ],
)
def test_peft_is_shown_for_what_it_opens(registry: Registry, small: Make, method: str, opens: bool) -> None:
    manifest = _manifest(registry, small, method=method)
    for content in (card(manifest), page(manifest)):
        assert ("PeftModel" in content) is opens
        assert "engine.attach" in content


def test_hostile_texts_stay_texts(registry: Registry, small: Make) -> None:
    facts: dict[str, Any] = {
        "base_model": HOSTILE,
        "method": HOSTILE,
        "ranks": {HOSTILE: 2},
        "data": {
            **dict.fromkeys(("dataset", "source", "licence", "note", "digest", "start", "end", "shoppers"), HOSTILE),
            HOSTILE: HOSTILE,
            "cleaning": {
                "name": HOSTILE,
                "rows_in": 1,
                "rows_kept": 10**30,
                "rows_dropped": 0,
                "products": 0,
                "rules": [{"rule": HOSTILE, "action": HOSTILE, "rows": 1, "share": 1e300, "example": HOSTILE}],
                "switched_off": [HOSTILE],
            },
        },
        "metrics": [{"metric": HOSTILE, "slice": HOSTILE, "value": -1e300, "low": -1e308, "high": 1e308}],
        "protocol": HOSTILE,
        "privacy": {"epsilon": 1, "delta": 0, HOSTILE: HOSTILE},
        "versions": {HOSTILE: HOSTILE},
        "learning_curve": [{"step": 1, HOSTILE: 1e308}, {"step": 2, HOSTILE: -1e308}],
        "latency": {HOSTILE: HOSTILE, f"{HOSTILE}_ms": 1},
    }
    manifest = _manifest(registry, small, **facts)
    found = _checked(page(manifest))
    assert found.tags.count("style") == found.tags.count("title") - found.tags.count("svg") + 1 == 1
    assert found.text.count(" ".join(HOSTILE.split())) > 20
    text = card(manifest)
    body = text[text.index("\n# ") :].partition("## Use")[0]
    assert not re.search(r"(?<!\\)[<\[`]", body)  # no tag, no link, no image, no code
    assert [line for line in body.splitlines() if line.startswith("# ")] == ["# tea, version 1"]


def test_a_terminal_gets_no_commands(registry: Registry, small: Make) -> None:
    manifest = _manifest(registry, small, base_model="a\x1b[31m\x07\u202eb", data={"licence": "\x1b]0;title\x07"})
    for content in (card(manifest).partition("# tea")[2], page(manifest)):
        assert all(letter.isprintable() or letter == "\n" for letter in content)


def test_the_snippets_are_python(registry: Registry, small: Make) -> None:
    for name in ("minilm-l6", 'C:\\models\\"my": bert', "a'\"b\n\u202e\U0001f600", HOSTILE):
        text = card(_manifest(registry, small, base_model=name))
        blocks = re.findall(r"```python\n(.*?)\n```", text, re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            compile(block, "card", "exec")
        line = next(line for line in blocks[0].splitlines() if line.startswith("backbone = "))
        call = ast.parse(line).body[0]
        assert isinstance(call, ast.Assign)
        assert isinstance(call.value, ast.Call)
        assert ast.literal_eval(call.value.args[0]) == name


def test_the_same_adapter_has_the_same_cards(registry: Registry, small: Make) -> None:
    one, two = registry.publish("tea", small(**RICH)), registry.publish("tea", small(**RICH))
    again = replace(one.manifest, version="2", created=two.manifest.created)
    for file, drawn in (("card.md", card(again)), ("card.html", page(again))):
        assert drawn == two.read(file).decode() != one.read(file).decode()


def test_the_card_of_a_real_adapter(registry: Registry) -> None:
    manifest = Registry(SHIPPED).open("grocery").manifest
    found = _checked(page(manifest))
    main = next(entry for entry in manifest.metrics if (entry["metric"], entry["slice"]) == ("ndcg@10", "all"))
    assert f"{main['value']:.3f} {main['low']:.3f} – {main['high']:.3f}" in found.text
    cleaned = {rule["rule"]: rule for rule in manifest.data["cleaning"]["rules"]}["near_duplicate"]
    assert f"near duplicate linked {cleaned['rows']:,} {cleaned['share']:.2%}" in found.text
    assert "1 January 2017 to 27 November 2017, 330 days" in found.text
    assert "calibration" not in card(manifest).partition("## Calibration")[2].partition("##")[0]
    counts = [group["count"] for group in manifest.reliability]
    apart = [abs(group["predicted"] - group["observed"]) for group in manifest.reliability]
    assert f"{100 * np.average(apart, weights=counts):.2f} percentage points apart" in card(manifest)
    size = (SHIPPED / "grocery" / manifest.version / "decoder.safetensors").stat().st_size
    assert f"| decoder.safetensors | {size / 1e6:.2f} MB |" in card(manifest)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    least=st.sampled_from([None, 0.0, 0.5]),
)
def test_any_numbers_have_an_axis(values: list[float], least: float | None) -> None:
    axis = Axis.around(values, least=least)
    assert 2 <= len(axis.ticks) <= 8
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert all(0 <= axis.place(value) <= 1 for value in values)
    low, high = axis.ticks[0], axis.ticks[-1]
    slack = 1e-6 * (high - low)
    assert all(low - slack <= value <= high + slack for value in values if abs(value) < 1e15)
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)


@settings(max_examples=100, deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=1))
def test_any_shares_have_an_axis(shares: list[float]) -> None:
    axis = Axis.of_shares(shares)
    assert axis.ticks[0] == 0
    assert max(shares) <= axis.ticks[-1] * (1 + 1e-9) <= 1 + 1e-6
    assert list(axis.ticks) == sorted(set(axis.ticks))
    assert len({axis.label(tick) for tick in axis.ticks}) == len(axis.ticks)


def test_a_long_training_makes_no_long_page(registry: Registry, small: Make) -> None:
    curve = [{"step": step, "loss": 1 / step} for step in range(1, 5_000)]
    manifest = _manifest(registry, small, learning_curve=curve)
    assert len(page(manifest)) < 60_000
    assert "Training loss ended at 0.0002 (step 4,999), its lowest." in page(manifest)


def test_a_loss_that_is_no_number_is_not_published(registry: Registry, small: Make) -> None:
    with pytest.raises(RegistryError):
        registry.publish("tea", small(learning_curve=[{"step": 1, "loss": float("nan")}]))
    assert not registry.root.exists()


def test_drawing_needs_no_library() -> None:
    code = (
        "import sys; from peftrec.registry import Registry; from peftrec.registry.page import page;"
        f"page(Registry({str(SHIPPED)!r}).open('grocery').manifest);"
        "print({'torch', 'numpy', 'matplotlib', 'peft', 'jinja2'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
