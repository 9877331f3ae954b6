"""Amazon Personalize: interactions, items and users in the columns of its schemas, as files of one folder."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.reading.tables import read_table
from peftrec.data.reading.values import as_number, as_text, is_blank
from peftrec.data.source import DataSource
from peftrec.data.sources.epoch import unix_times
from peftrec.errors import SchemaError

SOURCE = DataSource(
    name="datasets in the schemas of Amazon Personalize",
    licence="the shop's own",
    url="https://docs.aws.amazon.com/personalize/latest/dg/how-it-works-dataset-schema.html",
)
UNTYPED = "interactions without EVENT_TYPE: all of them count as purchases"

EVENT_NAMES = {
    "view": ("view", "productviewed", "watch"),
    "click": ("click",),
    "favourite": ("like", "favorite", "favourite", "addtofavorites", "addtowishlist"),
    "cart": ("cart", "addtocart", "productadded"),
    "purchase": ("purchase", "buy", "ordercompleted"),
}
"""Our type of event -> names in EVENT_TYPE, in small letters without blanks, hyphens and underscores.

View and Purchase are the types that Amazon's e-commerce domain asks for, Watch and Click those of its video domain; the
others are those of its samples. ViewCart and StartCheckout are left out on purpose: they name again, each time a cart is
looked at, what AddToCart has told.
"""

REQUIRED = {"interactions": ("user_id", "item_id", "timestamp"), "items": ("item_id",), "users": ("user_id",)}
PRODUCTS = {
    col.TITLE: ("title", "item_name", "product_name", "name"),
    col.DESCRIPTION: ("description", "product_description"),
    col.CATEGORY: ("category", "category_l1"),
}
"""Our column of the catalogue -> columns of the items, in small letters; the first one that is there."""


def load_personalize(path: Path, rules: CleaningRules | None = None) -> Dataset:
    """Reads the datasets of one dataset group of Amazon Personalize.

    The folder holds ``interactions*``, ``items*`` and, if there are any, ``users*``, each one file, ``.csv`` or
    ``.parquet``; capitals make no difference, neither in the names of files nor in those of columns. Columns that
    peftrec has no use for keep their name, in small letters, as attributes of events, products and shoppers.

    Interactions: ``EVENT_TYPE`` is read by ``EVENT_NAMES``; any other type, or none, falls under the rule
    ``unknown_event``. Without that column, every interaction is a purchase: Personalize predicts the next interaction,
    whatever it is, as peftrec predicts the next purchase. ``TIMESTAMP`` is in seconds since 1970, UTC. ``EVENT_VALUE``
    means whatever the shop chose, so it is kept as a number and never taken for a price. A column of the shop's own that
    has one of our names is taken for ours only where it can be: ``QUANTITY`` if it holds numbers, ``DISCOUNT`` if it
    holds shares of a price, 0 to 1. Otherwise ("Yes", 15) it is kept as ``shop_quantity``, ``shop_discount``.

    Items: the title is ``TITLE``, ``ITEM_NAME``, ``PRODUCT_NAME`` or ``NAME``, and where it is empty the most specific
    category. ``CATEGORY_L1`` is the category, deeper levels keep their name; several values, which Personalize parts by
    ``|``, are parted by commas. ``PROMOTION`` tells no dates, so it is an attribute and no promotion of peftrec's.

    Args:
        path: The folder.
        rules: Which rows to drop. If not given: all rules, and titles filled from the deepest category.

    Raises:
        SchemaError: A file is missing, doubled or unreadable, or lacks a column.
        InvalidValueError: An id of the items or the users is missing or appears twice.
        NotEnoughDataError: A table is empty, or cleaning leaves no event.
    """
    files = _files(path)
    interactions, products = _read(files["interactions"], "interactions"), _products(_read(files["items"], "items"))
    return Dataset.build(
        name="personalize",
        catalog=products,
        events=_events(interactions),
        profiles=_listed(_read(files["users"], "users"), keep=(col.USER,)) if "users" in files else None,
        rules=rules or CleaningRules(title_from=_specific(products)),
        source=SOURCE if "event_type" in interactions.columns else replace(SOURCE, note=UNTYPED),
    )


def _files(folder: Path) -> dict[str, Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise SchemaError(
            f"{folder} is no folder that can be read: {error}",
            expected="a folder with interactions, items and, if there are any, users",
            remedy="pass the folder, not one of the files in it",
        ) from error
    tables = [file for file in inside if file.suffix.lower() in (".csv", ".parquet") and file.is_file()]
    found = {name: [file for file in tables if file.name.lower().startswith(name)] for name in REQUIRED}
    for name, files in found.items():
        if len(files) > 1 or (not files and name != "users"):
            shown = ", ".join(file.name for file in files or inside[:20]) or "nothing"
            raise SchemaError(
                f"{folder} holds {'more than one file' if files else 'no file'} of {name}: {shown}",
                expected=f"one file called {name}*.csv or {name}*.parquet",
                remedy="join them into one, or move the others away"
                if files
                else f"rename the file of {name}; Personalize can do without items, but peftrec reads their texts",
            )
    return {name: files[0] for name, files in found.items() if files}


def _read(file: Path, what: str) -> pl.DataFrame:
    frame = read_table(file, what=what)
    names = [name.strip().lower() for name in frame.columns]
    twice = sorted({name.upper() for name in names if names.count(name) > 1})
    missing = [name.upper() for name in REQUIRED[what] if name not in names]
    if twice or missing:
        problem = f"more than one column {twice[0]}" if twice else f"no column {' and no '.join(missing)}"
        raise SchemaError(
            f"{file} has {problem}; it has {', '.join(frame.columns)}",
            expected=f"the columns {', '.join(REQUIRED[what]).upper()}, each once",
            remedy="drop or rename one of them"
            if twice
            else "give the column the name that Personalize's schema asks for",
        )
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _events(interactions: pl.DataFrame) -> pl.DataFrame:
    frame = interactions.with_columns(unix_times(interactions[col.TIME]))
    if "event_type" in frame.columns:
        frame = _called(frame.with_columns(as_text(frame["event_type"], "interactions")), "event_type", col.EVENT)
        names = {name: ours for ours, names in EVENT_NAMES.items() for name in names}
        plain = pl.col(col.EVENT).str.to_lowercase().str.replace_all(r"[\s_-]+", "")
        # An empty text is no type of event; a null would be taken for a purchase.
        frame = frame.with_columns(
            plain.replace_strict(names, default=pl.col(col.EVENT)).fill_null("").alias(col.EVENT)
        )
    if "event_value" in frame.columns:
        frame = frame.with_columns(as_number(frame["event_value"], "interactions", single=False))
    for name in (col.DISCOUNT, col.QUANTITY, col.DWELL, col.PAGE):
        if name in frame.columns and not _is_ours(frame[name]):
            frame = _called(frame, name, f"shop_{name}")
    return frame


def _called(frame: pl.DataFrame, name: str, ours: str) -> pl.DataFrame:
    """Renames a column; one that has the new name already makes room."""
    return (_called(frame, ours, f"shop_{ours}") if ours in frame.columns else frame).rename({name: ours})


def _is_ours(column: pl.Series) -> bool:
    """Whether a column of the shop's own choice holds what peftrec means by its name: numbers, a share for discounts."""
    if not (column.dtype == pl.String or column.dtype.is_numeric()):
        return False
    number = column.cast(pl.Float64, strict=False)
    share = column.name != col.DISCOUNT or bool(number.is_between(0, 1).all())
    return share and number.null_count() == column.null_count()


def _products(items: pl.DataFrame) -> pl.DataFrame:
    for ours, theirs in PRODUCTS.items():
        found = next((name for name in theirs if name in items.columns), None)
        items = items if found is None else items.rename({found: ours})
    if col.TITLE not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias(col.TITLE))
    items = items.with_columns(as_text(items[col.TITLE], "items"))
    if "creation_timestamp" in items.columns:
        items = items.with_columns(unix_times(items["creation_timestamp"]))
    return _listed(items, keep=(col.ITEM, col.TITLE, col.DESCRIPTION, col.IMAGE))


def _listed(frame: pl.DataFrame, *, keep: tuple[str, ...]) -> pl.DataFrame:
    """Parts several values of a category by commas, and makes blank ones null."""
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String and name not in keep]
    values = [pl.col(name).str.replace_all(r"\s*\|\s*", ", ") for name in texts]
    return frame.with_columns(pl.when(~is_blank(value)).then(value) for value in values)


def _specific(products: pl.DataFrame) -> tuple[str, ...]:
    """Columns that an empty title is filled from: the deepest category first."""
    levels = [name for name in products.columns if name.startswith("category_l") and name[10:].isdecimal()]
    return (*sorted(levels, key=lambda name: -int(name[10:])), col.CATEGORY, col.BRAND)
