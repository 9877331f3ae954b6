"""The report page: whole, self-contained, and with what was measured in it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from peftrec.data import Dataset
from peftrec.evaluation import Evaluation, evaluate
from peftrec.evaluation.baselines import Baseline, PersonalFrequency, Popular
from peftrec.model import Adapter
from peftrec.report import write_report
from peftrec.report.plots import OURS, learning_plot

VOID = {"meta", "br", "path", "use", "circle", "rect", "line"}


class Page(HTMLParser):
    """Collects text, tags and links, and notices tags that are closed out of order."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def measured(trained: Adapter, grocery: Dataset) -> Evaluation:
    _, future = grocery.split(at="2017-11-27T05:00")
    baselines = [Baseline("popular", [Popular()]), Baseline("personal, decayed", [PersonalFrequency(84)])]
    return evaluate(trained, future, baselines=baselines, progress=False)


def test_a_page_holds_plots_numbers_and_examples(measured: Evaluation, trained: Adapter, tmp_path: Path):
    path = write_report(
        tmp_path / "report.html",
        measured,
        title="Tea & <kettles>",
        facts={"adapter": "grocery@1"},
        learning_curve=trained.learning_curve,
        examples={"household 1": ["MILK <b>: 0.90", "茶 🫖: 0.10"]},
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert "Tea & <kettles>" in page.text
    assert page.tags.count("svg") == 4  # ranking on two slices, reliability, learning
    for shown in ("household 1", "MILK <b>: 0.90", "茶 🫖: 0.10", "grocery@1"):
        assert shown in page.text
    assert str(measured) in page.text
    assert all(link.startswith("#") for link in page.links), "the page reads nothing from elsewhere"


def test_a_page_without_training_or_examples(measured: Evaluation, tmp_path: Path):
    path = write_report(tmp_path / "report.html", measured, title="Bare", facts={})
    assert Page(path.read_text(encoding="utf-8")).tags.count("svg") == 3


def test_numbers_of_a_segment_stand_below(measured: Evaluation, tmp_path: Path):
    within = replace(measured, dataset="grocery[age=45-54]")
    path = write_report(tmp_path / "report.html", measured, title="Both", facts={}, further=[within])
    page = Page(path.read_text(encoding="utf-8"))
    assert page.text.index(str(measured)) < page.text.index(str(within))
    assert page.tags.count("svg") == 3


def test_noise_of_a_loss_does_not_look_like_a_fall():
    def fall(last: float) -> float:
        drawn = learning_plot([{"step": 1.0, "eval_loss": 0.0636}, {"step": 2.0, "eval_loss": last}])
        (line,) = re.findall(rf'd="M \S+ (\S+) \s*L \S+ (\S+) [^>]*stroke: {OURS}', drawn)
        return float(line[1]) - float(line[0])

    assert 0 < 4 * fall(0.0635) < fall(0.06)
