"""Augmentations say the same in other words: shares hold, nothing is emptied, what is not meant stays."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from peftrec.data import Catalog, Dataset, Events
from peftrec.data.augment import (
    AttributeDrop,
    Crop,
    EventDrop,
    ReorderWithinBasket,
    SequenceAugmentation,
    SequenceChain,
    SynonymReplacement,
    TextAugmentation,
    TextChain,
    WordDrop,
    synonyms,
)
from peftrec.data.augment.words import PIECE, ROW, WORD, cut
from peftrec.data.histories import EVENT_ARRAYS, Histories
from peftrec.errors import ConfigError, InvalidValueError, MissingExtraError, PeftrecError, SchemaError
from peftrec.text import ProductTemplate

_ASSIGNED = st.characters(exclude_categories=("Cn", "Cs"))  # polars knows letters that Python's tables do not have yet
LETTERS = st.text("abcXYZ äß 12 .,-/()'’&%$绿茶クリームกข\t", max_size=30) | st.text(_ASSIGNED, max_size=12)
TEXTS = st.lists(LETTERS, max_size=6)
SHARES = st.sampled_from([0.0, 0.1, 0.5, 1.0])
DICTIONARY = {"cola": ["pop", "soft drink"], "Tea": ["cha"], "绿茶": ["green tea"], "茶": ["tea"], "ä": ["ae"]}
TEXT_STEPS = (WordDrop(0.5), SynonymReplacement(0.5, DICTIONARY), TextChain(((WordDrop(0.5), 0.5),)))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------------------------- words


@settings(deadline=None)
@given(TEXTS, st.sampled_from([frozenset[str](), frozenset({"绿茶", "茶", "กข"})]))
def test_pieces_join_to_the_text(texts: list[str], entries: frozenset[str]):
    pieces = cut(texts, entries=entries)
    joined = {row: "".join(some) for row, some in pieces.group_by(ROW).agg(PIECE).iter_rows()}
    assert [joined.get(row, "") for row in range(len(texts))] == texts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ICE - CRUSHED/CUBED, FRZN", ["ICE", "CRUSHED", "CUBED", "FRZN"]),
        ("T-LIGHT don't Nestlé’s", ["T-LIGHT", "don't", "Nestlé’s"]),
        ("milk 22 LB 1.5-2L, 5.6OZ 100ML x 3 green", ["milk", "green"]),
        ("5 greens, 12 lbs, in-ear", ["greens", "in-ear"]),
        ("USB3 A4 1080p 12/18&15PK can", ["can"]),
        ("有机绿茶100克 礼盒", ["有", "机", "绿", "茶", "礼", "盒"]),
        ("クリームおはよう", ["クリーム", "おはよう"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("한국 차", ["한국", "차"]),
        ("$5 -- & %", []),
    ],
)
def test_words_are_words(text: str, words: list[str]):
    assert cut([text]).filter(WORD)[PIECE].to_list() == words


def test_the_longest_dictionary_word_is_cut_first():
    entries = frozenset({"绿", "绿茶", "茶叶"})
    assert cut(["有机绿茶叶A绿"], entries=entries)[PIECE].to_list() == ["有机", "绿茶", "叶", "A", "绿"]


# ------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("augment", TEXT_STEPS)
@settings(deadline=None)
@given(texts=TEXTS, seed=st.integers(0, 9))
def test_same_generator_same_texts_and_none_is_emptied(augment: TextAugmentation, texts: list[str], seed: int):
    found = augment(texts, rng=rng(seed))
    assert found == augment(texts, rng=rng(seed))
    assert len(found) == len(texts)
    for new, old in zip(found, texts, strict=True):
        assert bool(new.strip()) == bool(old.strip())


@settings(deadline=None)
@given(TEXTS)
def test_share_zero_changes_nothing(texts: list[str]):
    for augment in (WordDrop(0), SynonymReplacement(0, DICTIONARY), TextChain(((WordDrop(1), 0),))):
        assert augment(texts, rng=rng()) == texts


@settings(deadline=None)
@given(TEXTS, SHARES, st.integers(0, 9))
def test_numbers_and_units_stay(texts: list[str], share: float, seed: int):
    for augment in (WordDrop(share), SynonymReplacement(share, DICTIONARY)):
        for new, old in zip(augment(texts, rng=rng(seed)), texts, strict=True):
            assert [mark for mark in new if mark.isdecimal()] == [mark for mark in old if mark.isdecimal()]
    assert WordDrop(1)(["green tea 22 LB, 100克"], rng=rng())[0].endswith("22 LB, 100克")


@settings(deadline=None)
@given(TEXTS, SHARES, st.integers(0, 9))
def test_dropping_keeps_order_and_melts_nothing(texts: list[str], share: float, seed: int):
    found = WordDrop(share)(texts, rng=rng(seed))
    for new, old in zip(found, texts, strict=True):
        left = iter(old)
        assert all(mark in left for mark in new.replace(" ", ""))  # a subsequence
        assert any(map(str.isalpha, new)) == any(map(str.isalpha, old))
    assert WordDrop(1)(["A茶B茶1茶2"], rng=rng(2)) == ["B 1 2"]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_the_share_of_dropped_words_holds(share: float):
    texts = [" ".join(f"w{'abcdefghij'[i]}" for i in range(10)) for _ in range(3000)]
    left = sum(len(text.split()) for text in WordDrop(share)(texts, rng=rng())) / 30_000
    spared = share**10 / 10  # the one word that stays where all would go
    assert left == pytest.approx(1 - share + spared, abs=0.012)


def test_one_of_the_marks_around_a_dropped_word_stays():
    text = "tea, green / mint (organic) pot"
    found = {WordDrop(0.5)([text], rng=rng(seed))[0] for seed in range(300)}
    assert {"tea, mint (organic) pot", "tea, green / mint pot", "green / mint (organic) pot", "tea", text} <= found
    for other in found:
        assert other[0].isalpha()
        assert other[-1].isalpha()
        assert ", ," not in other
        assert "  " not in other


def test_synonyms_take_the_case_of_the_word():
    augment = SynonymReplacement(1, {"cola": ["soft drink"], "tv": ["telly"], "élan": ["öl"]})
    given_, wanted = "COLA Cola cola coLa, TV Élan x", "SOFT DRINK Soft drink soft drink soft drink, TELLY Öl x"
    assert augment([given_], rng=rng()) == [wanted]


def test_synonyms_are_drawn_evenly_and_share_is_of_words_that_have_any():
    found = SynonymReplacement(0.4, {"cola": ["pop", "soda", "cola"], "Cola": ["soda"]})(["cola tea"] * 9000, rng=rng())
    counts = {text: found.count(text) / 9000 for text in ("cola tea", "pop tea", "soda tea")}
    assert counts == {key: pytest.approx(value, abs=0.02) for key, value in zip(counts, (0.6, 0.2, 0.2), strict=True)}


def test_synonyms_respect_word_boundaries():
    augment = SynonymReplacement(1, {"ice": ["frost"], "tea": ["cha"]})
    assert augment(["nice tea, iced ICE-tea teas"], rng=rng()) == ["nice cha, iced ICE-tea teas"]


def test_synonyms_in_scripts_without_spaces():
    augment = SynonymReplacement(1, {"绿茶": ["抹茶"], "茶": ["茗"], "クリーム": ["乳脂"], "ชา": ["ใบชา"]})
    assert augment(["有机绿茶100克红茶", "生クリーム", "กาแฟ ชา"], rng=rng()) == [
        "有机抹茶100克红茗",
        "生乳脂",
        "กาแฟ ใบชา",
    ]
    dropped = WordDrop(0.3)(["有机绿茶礼盒装"] * 200, rng=rng())
    assert {len(text) for text in dropped} > {4, 5, 6}


def test_dictionaries_are_read_from_files(tmp_path: Path):
    content = {"cola": ["pop"], "绿茶": ["green tea"]}
    (tmp_path / "words.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "words.csv").write_text("word,synonym\ncola,pop\n绿茶,green tea\n", encoding="utf-8")
    wanted = SynonymReplacement(1, content)(["Cola 绿茶"], rng=rng())
    assert wanted == ["Pop green tea"]
    for name in ("words.json", "words.csv"):
        assert SynonymReplacement(1, tmp_path / name)(["Cola 绿茶"], rng=rng()) == wanted
        assert SynonymReplacement(1, str(tmp_path / name))(["Cola 绿茶"], rng=rng()) == wanted


@pytest.mark.parametrize(
    ("content", "error", "match"),
    [
        ({"soft drink": ["pop"]}, InvalidValueError, "'soft drink'"),
        ({"4x4": ["car"], "a": ["b"]}, InvalidValueError, "1 entries"),
        ({"": ["pop"]}, InvalidValueError, "no single word"),
        ({"cola": ["pop", " "]}, InvalidValueError, "'cola'"),
        ({"cola": "pop"}, SchemaError, "'pop' for 'cola'"),
        ({"cola": [1]}, SchemaError, "synonym 1 for 'cola'"),
        ("[1, 2]", SchemaError, "is a list"),
        ('{"cola": ["pop"', SchemaError, "cannot be read"),
    ],
)
def test_bad_dictionaries_are_refused(content: object, error: type[PeftrecError], match: str, tmp_path: Path):
    path = tmp_path / "words.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(error, match=match):
        SynonymReplacement(0.2, path)
    if isinstance(content, dict):
        with pytest.raises(error, match=match):
            SynonymReplacement(0.2, content)


def test_files_without_the_columns_are_refused(tmp_path: Path):
    path = tmp_path / "words.csv"
    path.write_text("term,synonym\ncola,pop\n", encoding="utf-8")
    with pytest.raises(SchemaError, match="word"):
        SynonymReplacement(0.2, path)
    with pytest.raises(SchemaError, match="cannot be read"):
        SynonymReplacement(0.2, tmp_path / "nothing.json")


def test_an_empty_dictionary_replaces_nothing():
    assert SynonymReplacement(1, {})(["tea"], rng=rng()) == ["tea"]


@pytest.fixture
def fresh_wordnet() -> None:
    synonyms._reader.cache_clear()
    synonyms._in_wordnet.cache_clear()


def with_nltk(patch: pytest.MonkeyPatch, corpus: object) -> None:
    for name, module in {"nltk": ModuleType("nltk"), "nltk.corpus": corpus}.items():
        patch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("fresh_wordnet")
def test_without_nltk_the_commands_are_named(monkeypatch: pytest.MonkeyPatch):
    with_nltk(monkeypatch, None)
    with pytest.raises(MissingExtraError, match="nltk is not installed") as caught:
        SynonymReplacement()
    assert "peftrec[augment]" in caught.value.remedy
    assert "python -m nltk.downloader wordnet" in caught.value.remedy


@pytest.mark.usefixtures("fresh_wordnet")
@pytest.mark.parametrize("error", [LookupError("Resource wordnet not found"), OSError("index.sense")])
def test_without_its_data_the_command_is_named(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def absent() -> None:
        raise error

    with_nltk(monkeypatch, SimpleNamespace(wordnet=SimpleNamespace(ensure_loaded=absent)))
    with pytest.raises(MissingExtraError, match="WordNet data is not installed"):
        SynonymReplacement()


class Sense:
    def __init__(self, domain: str, **counts: int) -> None:
        self.domain, self.counts = domain, counts

    def lexname(self) -> str:
        return self.domain

    def lemmas(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=lambda n=n: n, count=lambda c=c: c) for n, c in self.counts.items()]


@pytest.mark.usefixtures("fresh_wordnet")
def test_wordnet_is_asked_for_goods_alone(monkeypatch: pytest.MonkeyPatch):
    senses = {
        "cookies": [Sense("noun.food", cookie=9, biscuit=1, cooky=0, Nabisco=3), Sense("noun.food", bite=5)],
        "card": [Sense("noun.communication", message=4), Sense("noun.artifact", pasteboard=2)],
        "can": [Sense("noun.artifact", can=3, tin_can=1)],
        "in": [Sense("noun.substance", indium=1)],
    }
    wordnet = SimpleNamespace(
        ensure_loaded=lambda: None,
        synsets=lambda word, part: senses.get(word, []) if part == "n" else [Sense("adj.all", wrong=9)],
        morphy=lambda word, part: word.removesuffix("s"),
    )
    with_nltk(monkeypatch, SimpleNamespace(wordnet=wordnet))
    augment = SynonymReplacement(1)
    texts = ["Cookies in a CAN card, 绿茶"] * 20
    assert {*augment(texts, rng=rng())} == {"Biscuit in a TIN CAN card, 绿茶"}
    synonyms._in_wordnet.cache_clear()  # else the next test would find these


@pytest.mark.usefixtures("fresh_wordnet")
def test_the_real_wordnet():
    pytest.importorskip("nltk")
    try:
        augment = SynonymReplacement(1)
    except MissingExtraError as error:
        pytest.skip(error.found)
    assert augment(["CARPET 22 LB", "Cookies", "chicken", "Private"], rng=rng()) == [
        "RUG 22 LB",
        "Biscuit",
        "chicken",
        "Private",
    ]


def test_a_chain_applies_each_step_by_its_chance():
    texts = ["cola tea"] * 4000
    chain = TextChain(((SynonymReplacement(1, {"cola": ["pop"]}), 0.25), (SynonymReplacement(1, {"pop": ["soda"]}), 1)))
    found = chain(texts, rng=rng())
    assert found.count("soda tea") / 4000 == pytest.approx(0.25, abs=0.02)
    assert found.count("cola tea") == 4000 - found.count("soda tea")


@pytest.mark.parametrize("steps", [(), (WordDrop(), 0.5), ((WordDrop(), 0.5, 1),), ((0.5, WordDrop()),), (WordDrop(),)])
@pytest.mark.parametrize("chain", [TextChain, SequenceChain])
def test_chains_of_something_else_are_refused(chain: Callable[[object], object], steps: object):
    with pytest.raises(ConfigError, match="chain"):
        chain(steps)
    with pytest.raises(ConfigError, match="chance=2"):
        chain(((WordDrop(), 2),))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "0.1", True, None])
@pytest.mark.parametrize(
    "kind", [WordDrop, lambda share: SynonymReplacement(share, {}), AttributeDrop, EventDrop, Crop]
)
def test_shares_out_of_range_are_refused(kind: Callable[[object], object], share: object):
    with pytest.raises(ConfigError, match="share="):
        kind(share)


# -------------------------------------------------------------------------------------------------------- attributes


def products(rows: int = 2000) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": [str(row) for row in range(rows)],
            "title": ["tea"] * rows,
            "brand": pl.Series(["a", "b"] * (rows // 2), dtype=pl.Categorical),
            "category": ["drinks"] * rows,
            "colour": ["red", None] * (rows // 2),
            "image": ["a.png"] * rows,
            "shelf_id": ["s"] * rows,
            "price": [1.5] * rows,
        }
    )


def test_attributes_go_and_the_rest_stays():
    frame = products()
    found = AttributeDrop(0.3)(frame, rng=rng())
    assert found.schema == frame.schema
    untouched = ["item_id", "title", "image", "shelf_id", "price"]
    assert found.select(untouched).equals(frame.select(untouched))
    for name in ("brand", "category", "colour"):
        known = frame[name].is_not_null()
        assert found.filter(known)[name].is_null().mean() == pytest.approx(0.3, abs=0.05)
        same = found[name].is_not_null()
        assert found.filter(same)[name].equals(frame.filter(same)[name])
    gone = found.select(pl.col("brand", "category").is_null())
    assert (gone["brand"] & gone["category"]).mean() == pytest.approx(0.09, abs=0.03)  # one by one, not row by row
    assert found.equals(AttributeDrop(0.3)(frame, rng=rng()))
    assert not found.equals(AttributeDrop(0.3)(frame, rng=rng(1)))
    assert AttributeDrop(0)(frame, rng=rng()).equals(frame)


def test_templates_render_without_what_was_dropped():
    found = ProductTemplate().render(AttributeDrop(1)(products(4), rng=rng()))
    assert found.to_list() == ["tea"] * 4
    kept = ProductTemplate().render(AttributeDrop(1, keep=("title", "brand"))(products(2), rng=rng()))
    assert kept.to_list() == ["tea, a", "tea, b"]


def test_a_product_without_a_title_keeps_its_attributes():
    frame = pl.DataFrame({"item_id": ["1", "2", "3"], "title": ["tea", " ", None], "brand": ["a", "b", "c"]})
    assert AttributeDrop(1)(frame, rng=rng())["brand"].to_list() == [None, "b", "c"]
    assert AttributeDrop(1)(frame.drop("title"), rng=rng())["brand"].to_list() == ["a", "b", "c"]


# --------------------------------------------------------------------------------------------------------- sequences


def arrays(histories: Histories) -> dict[str, np.ndarray]:
    return {name: getattr(histories, name) for name in EVENT_ARRAYS}


@pytest.fixture(scope="module")
def one_event() -> Histories:
    """The real form, whatever fields it has: one shopper with one event."""
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    events = Events.from_table({"user_id": ["u"], "item_id": ["a"], "timestamp": [moment]})
    shop = Dataset("shop", Catalog.from_table({"item_id": ["a"], "title": ["tea"]}), events)
    return Histories.of(shop, np.array([0]), moment=moment.timestamp() + 1)


def made(one: Histories, visits: Sequence[Sequence[int]], *, kinds: int = 1) -> Histories:
    """Shoppers with visits of so many events; every array tells its event's number, so that mix-ups show."""
    counts = [sum(shopper) for shopper in visits]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    number = np.arange(offsets[-1])
    changed = {name: number.astype(getattr(one, name).dtype) for name in EVENT_ARRAYS}
    codes = [code for shopper in visits for code in np.repeat(np.arange(len(shopper))[::-1] + 5, shopper)]
    changed["session"] = np.array(codes, np.int64) + 100 * np.repeat(np.arange(len(visits)), counts)
    changed["age"] = (offsets[-1] - number).astype(np.float64)
    changed["event"] = (number % kinds).astype(np.int8)
    return replace(one, offsets=offsets, channel=np.arange(len(visits), dtype=np.int32), **changed)


def check_kept(found: Histories, whole: Histories) -> np.ndarray:
    """Checks that events were left out and nothing else; returns the numbers of those that stay."""
    assert len(found) == len(whole)
    assert found.offsets[0] == 0
    assert found.offsets.dtype == np.int64
    assert (np.diff(found.offsets) >= 0).all()
    assert ((np.diff(found.offsets) > 0) == (np.diff(whole.offsets) > 0)).all()
    assert np.array_equal(found.channel, whole.channel)
    kept = found.item
    assert (np.diff(kept) > 0).all()
    assert np.array_equal(found.row, whole.row[kept])
    for name, values in arrays(found).items():
        assert values.dtype == getattr(whole, name).dtype
        assert np.array_equal(values, getattr(whole, name)[kept]), name
    return kept


VISITS = st.lists(st.lists(st.integers(1, 4), max_size=5), max_size=5)


@settings(max_examples=60, deadline=None)
@given(visits=VISITS, share=SHARES, seed=st.integers(0, 9))
def test_leaving_events_out_keeps_all_arrays_in_step(
    one_event: Histories, visits: list[list[int]], share: float, seed: int
):
    whole = made(one_event, visits)
    chain = SequenceChain(((Crop(share), 0.5), (EventDrop(share), 0.5)))
    for augment in (EventDrop(share), Crop(share), Crop(share, by="events"), chain):
        kept = check_kept(augment(whole, rng=rng(seed)), whole)
        assert np.array_equal(kept, augment(whole, rng=rng(seed)).item)
        if share == 0:
            assert len(kept) == len(whole.item)
        if share == 1 and augment is not chain:
            least = [shopper if augment == Crop(1) else [1] for shopper in visits if shopper]
            sizes = np.bincount(whole.row[kept], minlength=len(visits))
            assert all(size in allowed for size, allowed in zip(sizes[sizes > 0], least, strict=True))


@settings(max_examples=60, deadline=None)
@given(visits=VISITS, share=SHARES, seed=st.integers(0, 9))
def test_a_crop_is_one_run_of_the_right_length(one_event: Histories, visits: list[list[int]], share: float, seed: int):
    whole = made(one_event, visits)
    for by in ("visits", "events"):
        found = Crop(share, by=by)(whole, rng=rng(seed))
        for row, shopper in enumerate(visits):
            mine = found.item[found.offsets[row] : found.offsets[row + 1]]
            assert (np.diff(mine) == 1).all()
            total = len(shopper) if by == "visits" else sum(shopper)
            left = len(np.unique(whole.session[mine])) if by == "visits" else len(mine)
            assert left == (max(1, total - int(share * total)) if total else 0)
            if by == "visits":
                assert len(mine) == np.isin(whole.session, whole.session[mine]).sum()  # whole visits


def test_crops_begin_anywhere(one_event: Histories):
    whole = made(one_event, [[1] * 10])
    starts = {int(Crop(0.3)(whole, rng=rng(seed)).item[0]) for seed in range(60)}
    assert starts == {0, 1, 2, 3}


def test_visits_that_overlap_are_counted_as_they_begin(one_event: Histories):
    whole = replace(made(one_event, [[6]]), session=np.array([7, 3, 7, 3, 1, 7]))
    found = {tuple(Crop(0.34)(whole, rng=rng(seed)).item) for seed in range(30)}
    assert found == {(0, 1, 2, 3, 5), (1, 3, 4)}


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_of_dropped_events_holds(one_event: Histories, share: float):
    whole = made(one_event, [[20]] * 500)
    kept = EventDrop(share)(whole, rng=rng()).item
    assert len(kept) / 10_000 == pytest.approx(1 - share, abs=0.015)
    assert np.corrcoef(np.isin(np.arange(10_000), kept), np.arange(10_000) % 20)[0, 1] == pytest.approx(0, abs=0.03)


def test_the_last_event_of_a_shopper_is_chosen_by_chance(one_event: Histories):
    whole = made(one_event, [[4]] * 1000)
    kept = EventDrop(1)(whole, rng=rng()).item
    assert (np.diff(kept // 4) == 1).all()
    assert chisquare(np.bincount(kept % 4, minlength=4)).pvalue > 0.01


@settings(max_examples=60, deadline=None)
@given(visits=VISITS, kinds=st.integers(1, 3), seed=st.integers(0, 9))
def test_reordering_stays_within_a_visit_and_a_kind(
    one_event: Histories, visits: list[list[int]], kinds: int, seed: int
):
    whole = made(one_event, visits, kinds=kinds)
    found = ReorderWithinBasket()(whole, rng=rng(seed))
    for name in ("offsets", "age", "page", "event", "session", "channel"):
        assert np.array_equal(getattr(found, name), getattr(whole, name)), name
    moved = found.item
    assert np.array_equal(np.sort(moved), np.arange(len(moved)))
    for name in ("event", "session"):
        assert np.array_equal(getattr(whole, name)[moved], getattr(whole, name)), name
    assert np.array_equal(whole.row[moved], whole.row)
    for name in {*EVENT_ARRAYS} - {"age", "page"}:
        assert np.array_equal(getattr(found, name), getattr(whole, name)[moved]), name


def test_every_order_of_a_basket_is_as_likely(one_event: Histories):
    whole = made(one_event, [[1, 3, 1]] * 3000)
    found = ReorderWithinBasket()(whole, rng=rng()).item % 5
    orders, counts = np.unique(found.reshape(-1, 5), axis=0, return_counts=True)
    assert orders[:, [0, 4]].tolist() == [[0, 4]] * 6
    assert chisquare(counts).pvalue > 0.01


def test_a_chain_leaves_the_shoppers_it_does_not_pick(one_event: Histories):
    whole = made(one_event, [[2, 2]] * 2000)
    found = SequenceChain(((EventDrop(1), 0.3),))(whole, rng=rng())
    check_kept(found, whole)
    sizes = np.diff(found.offsets)
    assert {*sizes.tolist()} == {1, 4}
    assert (sizes == 1).mean() == pytest.approx(0.3, abs=0.04)


def test_what_is_known_of_shoppers_themselves_stays(one_event: Histories):
    coupons = SimpleNamespace(take=lambda rows: None)
    whole = replace(made(one_event, [[2], [1, 3]]), coupons=coupons)
    for augment in (EventDrop(1), Crop(1), ReorderWithinBasket(), SequenceChain(((EventDrop(1), 0.5),))):
        found = augment(whole, rng=rng())
        assert np.array_equal(found.channel, whole.channel)
        assert found.coupons is coupons


def test_other_units_are_refused():
    with pytest.raises(ConfigError, match="by='weeks'"):
        Crop(0.2, by="weeks")


def test_real_histories_keep_their_order(grocery: Dataset):
    log = grocery.log
    histories = Histories.of(grocery, np.unique(log.user), moment=float(log.time[-1]) + 1)
    steps: list[SequenceAugmentation] = [EventDrop(), Crop(), Crop(by="events"), ReorderWithinBasket()]
    for augment in steps:
        found = augment(histories, rng=rng())
        first = np.zeros(len(found.item), bool)
        first[found.offsets[:-1]] = True
        assert (np.diff(found.age) <= 0)[~first[1:]].all()
        assert set(zip(found.row, found.item, strict=True)) <= set(zip(histories.row, histories.item, strict=True))
        assert set(found.age) <= set(histories.age)  # nothing becomes newer or older
    assert all(a <= b for a, b in pairwise(histories.offsets))
