from dataclasses import replace
from datetime import UTC, datetime

import polars as pl
import pytest

from peftrec.errors import ConfigError
from peftrec.text import ProductTemplate, ProfileTemplate, SceneTemplate, Templates


def product(**columns: object) -> str:
    return ProductTemplate().render(pl.DataFrame({name: [value] for name, value in columns.items()})).to_list()[0]


def test_a_grocery_product_reads_as_a_shopper_would_say_it():
    line = product(
        item_id="25671",
        department="GROCERY",
        package_size="22 LB",
        manufacturer_id="2",
        category="FRZN ICE",
        brand="National",
        title="ICE - CRUSHED/CUBED",
    )
    assert line == "ICE - CRUSHED/CUBED, FRZN ICE, National, 22 LB, GROCERY"


def test_the_order_of_columns_in_the_file_changes_nothing():
    columns = {"title": "tea", "zone": "A1", "colour": "green", "description": "loose leaf", "tags": "hot, drink"}
    backwards = dict(reversed(columns.items()))
    assert product(**columns) == product(**backwards) == "tea, green, A1, hot, drink, loose leaf"


def test_missing_and_blank_values_leave_no_trace():
    assert product(title="tea", category=None, brand="  ", department="\t\n") == "tea"
    assert product(title=None, brand=None) == ""


def test_white_space_is_single():
    assert product(title="  green \n  tea ") == "green tea"


def test_numbers_ids_and_pictures_are_not_read():
    assert product(title="tea", price=3.5, image="http://x/y.jpg", maker_id="m7", weight=200) == "tea"


def test_categories_are_text():
    frame = pl.DataFrame({"title": ["tea"], "department": ["GROCERY"]}).cast({"department": pl.Categorical})
    assert ProductTemplate().render(frame).to_list() == ["tea, GROCERY"]


def test_a_frame_without_rows_or_text_renders():
    assert ProductTemplate().render(pl.DataFrame({"title": pl.Series([], dtype=pl.String)})).to_list() == []
    assert ProductTemplate().render(pl.DataFrame({"price": [1.0, 2.0]})).to_list() == ["", ""]


def test_a_profile_names_its_attributes():
    frame = pl.DataFrame(
        {
            "user_id": ["1", "2", "3"],
            "income": ["50-74K", None, "Unknown"],
            "age": ["45-54", "19-24", None],
            "household_size": [2.0, 3.5, None],
            "owns_home": [True, False, None],
        }
    )
    assert ProfileTemplate().render(frame).to_list() == [
        "age 45-54, household size 2, income 50-74K, owns home yes",
        "age 19-24, household size 3.5, owns home no",
        "",
    ]


@pytest.mark.parametrize(
    ("moment", "line"),
    [
        (datetime(2017, 12, 2, 18, 0, tzinfo=UTC), "Saturday evening, December"),
        (datetime(2017, 12, 2, 17, 59, tzinfo=UTC), "Saturday afternoon, December"),
        (datetime(2017, 1, 1, 0, 0, tzinfo=UTC), "Sunday night, January"),
        (datetime(2024, 2, 29, 6, 0, tzinfo=UTC), "Thursday morning, February"),
    ],
)
def test_a_scene_tells_day_part_and_month(moment: datetime, line: str):
    assert SceneTemplate().one(moment) == line


def test_a_scene_tells_the_channel():
    template = SceneTemplate()
    moment = datetime(2017, 12, 2, 20, tzinfo=UTC)
    assert template.one(moment, channel="mobile app") == "Saturday evening, December, mobile app"
    assert template.many([moment, moment], channels=["web", None]) == [
        "Saturday evening, December, web",
        "Saturday evening, December",
    ]
    assert template.many([]) == []


def test_a_scene_renders_a_whole_frame_and_skips_unknown_moments():
    frame = pl.DataFrame({"timestamp": [datetime(2017, 5, 1, 9), None], "channel": ["web", "shop"]})
    assert SceneTemplate().render(frame).to_list() == ["Monday morning, May, web", "shop"]


@pytest.mark.parametrize(
    ("moment", "country", "line"),
    [
        (datetime(2017, 12, 23, 19), "US", "Saturday evening, December, winter, week of Christmas Day"),
        (datetime(2017, 12, 25, 1), "US", "Monday night, December, winter, week of Christmas Day"),
        (datetime(2017, 12, 27, 9), "US", "Wednesday morning, December, winter, week of New Year's Day"),
        (datetime(2017, 12, 18, 9), "US", "Monday morning, December, winter"),
        (datetime(2017, 7, 12, 13), "US", "Wednesday afternoon, July, summer"),
        (datetime(2017, 7, 12, 13), "AU", "Wednesday afternoon, July, winter"),
        (datetime(2017, 7, 12, 13), "", "Wednesday afternoon, July"),
    ],
)
def test_a_scene_tells_season_and_holidays_of_a_country(moment: datetime, country: str, line: str):
    assert SceneTemplate().one(moment, country=country) == line


def test_a_country_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="'XX'"):
        SceneTemplate().one(datetime(2017, 7, 12), country="XX")


def test_fingerprints_are_known_and_follow_every_field():
    # Written down, so that a change of wording cannot slip by: published adapters carry these values.
    assert Templates().fingerprint == FINGERPRINT
    changed = [
        replace(Templates(), product=ProductTemplate(first=("title",))),
        replace(Templates(), profile=ProfileTemplate(skip=("income",))),
        replace(Templates(), scene=SceneTemplate(parts=((0, "day"),))),
        replace(Templates(), scene=SceneTemplate(ahead=3)),
    ]
    prints = {Templates().fingerprint, *(templates.fingerprint for templates in changed)}
    assert len(prints) == 5


FINGERPRINT = "3b652ee5c20c04da5c74211466fc53fdf756f3828db54905ea53e6d59592a388"
