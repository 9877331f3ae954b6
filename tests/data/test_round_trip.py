"""Whatever form a table comes in, the same events come out, with the same digest."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftrec.data import Catalog, Dataset, Events, Profiles

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20)
ID = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=8)
NUMBER = st.none() | st.floats(0, 1e6, width=32)
MOMENT = st.datetimes(datetime(1990, 1, 1), datetime(2024, 1, 1))


@st.composite
def tables(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Catalogue, events and profiles that fit each other."""
    items = draw(st.lists(ID, min_size=1, max_size=6, unique=True))
    users = draw(st.lists(ID, min_size=1, max_size=6, unique=True))
    rows = draw(
        st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items), MOMENT, NUMBER), min_size=1, max_size=20)
    )
    titles = draw(st.lists(TEXT.map(lambda text: f"x{text}"), min_size=len(items), max_size=len(items)))
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Datetime("us"), "price": pl.Float32}
    catalog = pl.DataFrame({"item_id": items, "title": titles})
    ages = draw(st.lists(st.none() | st.integers(0, 120), min_size=len(users), max_size=len(users)))
    profiles = pl.DataFrame({"user_id": users, "age": ages}, schema={"user_id": pl.String, "age": pl.Int64})
    return catalog, pl.DataFrame(rows, schema=schema, orient="row"), profiles


FORMS = {
    "dict": lambda frame: frame.to_dict(as_series=False),
    "pandas": lambda frame: pd.DataFrame(frame.to_dict(as_series=False)),
    "pandas of Arrow": lambda frame: frame.to_pandas(use_pyarrow_extension_array=True),
    "Arrow": lambda frame: pa.table(frame.to_arrow()),
    "lazy": lambda frame: frame.lazy(),
}


def build(catalog: object, events: object, profiles: object) -> Dataset:
    return Dataset(
        "shop",
        Catalog.from_table(catalog),  # pyright: ignore[reportArgumentType]
        Events.from_table(events),  # pyright: ignore[reportArgumentType]
        Profiles.from_table(profiles),  # pyright: ignore[reportArgumentType]
    )


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=25, deadline=None)
@given(tables())
def test_every_form_gives_the_same_data_set(form: str, given_tables: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]):
    direct = build(*given_tables)
    through = build(*(FORMS[form](frame) for frame in given_tables))
    assert through.digest == direct.digest
    assert through.events.frame.equals(direct.events.frame)
    assert through.catalog.frame.equals(direct.catalog.frame)
    assert through.log.item.tolist() == direct.log.item.tolist()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables())
def test_files_give_the_same_events(tmp_path: Path, given_tables: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]):
    catalog, events, _ = given_tables
    events.write_parquet(tmp_path / "events.parquet")
    events.write_csv(tmp_path / "events.csv", quote_style="non_numeric")
    catalog.write_csv(tmp_path / "items.csv", quote_style="always")
    direct = Events.from_table(events).frame
    assert Events.from_table(tmp_path / "events.parquet").frame.equals(direct)
    assert Events.from_table(tmp_path / "events.csv").frame.equals(direct)
    assert Catalog.from_table(tmp_path / "items.csv").frame.equals(catalog)


@settings(max_examples=50, deadline=None)
@given(tables(), st.randoms(use_true_random=False))
def test_codes_lead_back_to_the_rows_and_order_does_not_change_the_digest(
    given_tables: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame], random: object
):
    catalog, events, profiles = given_tables
    dataset = build(catalog, events, profiles)
    log, users, items = dataset.log, dataset.users.to_list(), dataset.catalog.ids.to_list()
    told = sorted((users[u], items[i], t) for u, i, t in zip(log.user, log.item, log.time, strict=True))
    rows = events.with_columns(pl.col("timestamp").dt.replace_time_zone("UTC")).rows()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert told == sorted((row[0], row[1], (row[2] - epoch).total_seconds()) for row in rows)
    seed = random.randrange(1000)  # pyright: ignore[reportAttributeAccessIssue]
    shuffled = (frame.sample(fraction=1, shuffle=True, seed=seed) for frame in given_tables)
    assert build(*shuffled).digest == dataset.digest
