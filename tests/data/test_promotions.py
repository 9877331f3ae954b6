"""Promotions: read, checked, coded, and never known before they were announced."""

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from peftrec.data import Catalog, Dataset, Events, Promotions, load_dataset
from peftrec.data.columns import PROMOTION_KINDS
from peftrec.data.snapshot import ITEM_FEATURES, Snapshot
from peftrec.errors import InvalidValueError, NotEnoughDataError, SchemaError, UnknownItemError

DAY = 86_400
MOMENT = datetime(2024, 3, 4)
SECONDS = pl.Series([MOMENT]).dt.epoch("s")[0] * 1.0
GOOD = {"item_id": ["a", "b"], "start": ["2024-03-04", "2024-03-11"], "end": ["2024-03-11", "2024-03-18"]}


def shop(promotions: object = None) -> Dataset:
    return Dataset.build(
        name="shop",
        catalog={"item_id": ["a", "b"], "title": ["tea", "kettle"]},
        events={"user_id": ["u"], "item_id": ["a"], "timestamp": [MOMENT - timedelta(days=3)]},
        promotions=promotions,  # pyright: ignore[reportArgumentType]
    )


def feature(dataset: Dataset, name: str, moment: float = SECONDS) -> list[float]:
    return Snapshot.at(dataset, moment).items[:, ITEM_FEATURES.index(name)].tolist()


def test_what_the_table_leaves_out_is_known_only_when_it_starts():
    promotions = Promotions.from_table(GOOD)
    assert promotions.frame["announced"].equals(promotions.frame["start"])
    assert promotions.frame["kind"].to_list() == ["feature", "feature"]
    assert promotions.frame["reach"].to_list() == [1, 1]
    assert repr(promotions) == "Promotions(2 promotions of 2 products: feature)"
    found = shop(promotions)
    assert feature(found, "feature_next") == [1, 0]  # a's begins at the moment; b's is not known yet
    assert feature(found, "feature_planned") == pytest.approx([1 / 5, 0])
    assert feature(found, "feature_1w", SECONDS + 14 * DAY) == [0, 1]
    blank = Promotions.from_table({**GOOD, "announced": ["", None]})
    assert blank.frame["announced"].equals(blank.frame["start"])


def test_an_announced_plan_is_read_ahead_and_an_unannounced_one_is_not():
    early = [MOMENT - timedelta(days=1), MOMENT + timedelta(seconds=1)]
    found = shop({**GOOD, "announced": early, "kind": ["display", "display"], "reach": [0.5, 0.5]})
    assert feature(found, "display_next") == [0.5, 0]
    assert feature(found, "display_planned", SECONDS + 1) == pytest.approx([0.1, 0.1], rel=1e-4)
    assert feature(found, "display_peak", SECONDS + 1) == pytest.approx([0.5, 0.5], rel=1e-4)
    assert feature(found, "feature_next") == [0, 0]


def test_promotions_announced_after_the_moment_change_nothing_on_real_data(grocery: Dataset):
    assert grocery.promotions is not None
    past, _ = grocery.split(at="2017-06-01")
    moment = float(past.log.time[-1]) + 1
    announced = grocery.promotions.frame["announced"].dt.epoch("us") / 1e6
    known = replace(grocery, promotions=Promotions(grocery.promotions.frame.filter(announced <= moment)))
    assert 0 < len(known.promotions or "") < len(grocery.promotions)
    assert np.array_equal(Snapshot.at(grocery, moment).items, Snapshot.at(known, moment).items)
    without = Snapshot.at(replace(grocery, promotions=None), moment).items
    columns = [index for index, name in enumerate(ITEM_FEATURES) if name.startswith(PROMOTION_KINDS)]
    assert not without[:, columns].any()
    assert Snapshot.at(grocery, moment).items[:, columns].any(axis=0).all()


def test_promotions_travel_with_the_parts_and_the_digest():
    whole = Dataset(
        "shop",
        Catalog.from_table({"item_id": ["a", "b"], "title": ["tea", "kettle"], "brand": ["x", "y"]}),
        Events.from_table({"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": ["2024-01-01", "2024-02-01"]}),
        promotions=Promotions.from_table(GOOD),
    )
    past, future = whole.split(at="2024-01-15")
    assert past.promotions is future.promotions is whole.promotions
    assert future.past is not None
    assert future.past.promotions is whole.promotions
    part = whole.segment(by="brand")["x"].promotions
    assert part is not None
    assert part.frame["item_id"].to_list() == ["a"]
    assert replace(whole, promotions=None).digest != whole.digest


def test_promotions_of_unknown_products_are_counted():
    found = shop({**GOOD, "item_id": ["a", "zzz"]})
    assert len(found.promotions or "") == 1
    assert found.report is not None
    count = next(count for count in found.report.counts if count.rule == "unknown_promotion")
    assert (count.action, count.rows, count.share) == ("left out", 1, 0.5)
    assert "row 1: item_id 'zzz'" in str(found.report)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_id": ["a", None]}, "row 1 of the promotions .* item_id missing"),
        ({"start": ["2024-03-04", "soon"]}, "row 1 .* start missing or unreadable"),
        ({"end": ["2024-03-04", "2024-03-18"]}, "row 0 .* end '2024-03-04 00:00:00.*a moment after the start"),
        ({"kind": ["feature", "rocket"]}, "row 1 .* kind 'rocket'.*one of feature, headline, display"),
        ({"announced": ["20/11/2023", ""]}, "row 0 .* announced '20/11/2023'.*nothing where the promotion is known"),
        ({"reach": [0.0, 1.0]}, "row 0 .* reach '0.0'.*share above 0"),
        ({"reach": [1.5, 2.0]}, "row 0 .* reach '1.5', and 1 more rows"),
    ],
)
def test_bad_rows_are_named(change: dict[str, list[object]], message: str):
    with pytest.raises(InvalidValueError, match=f"(?s){message}"):
        Promotions.from_table({**GOOD, **change})


def test_a_data_set_put_together_by_hand_may_not_promote_unknown_products():
    stranger = Promotions.from_table({**GOOD, "item_id": ["a", "samovar"]})
    with pytest.raises(UnknownItemError, match="samovar"):
        replace(shop(), promotions=stranger)


def test_bad_tables_are_refused():
    with pytest.raises(SchemaError, match="end"):
        Promotions.from_table({"item_id": ["a"], "start": ["2024-03-04"], "valid_to": ["2024-03-05"]})
    with pytest.raises(NotEnoughDataError, match="no rows"):
        Promotions.from_table({"item_id": [], "start": [], "end": []})
    with pytest.raises(SchemaError, match="not a table of promotions"):
        Promotions(pl.DataFrame({"item_id": ["a"]}))


def test_weeks_of_the_real_calendar_start_where_its_transactions_do():
    shop = load_dataset("completejourney")
    assert shop.promotions is not None
    starts = shop.promotions.frame["start"].unique().sort()
    assert len(starts) == 53
    assert f"{starts[48]:%Y-%m-%d %H:%M}" == "2017-11-27 05:00"
    assert shop.promotions.frame["reach"].is_between(0, 1, closed="right").all()
