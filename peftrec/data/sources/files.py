"""Generic files: a folder with one table per file, and the names of its columns in ``columns.json``."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import polars as pl

from peftrec.data import columns as col
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.dataset import Dataset
from peftrec.data.events import POSITION
from peftrec.data.inspection.facts import facts_of
from peftrec.data.inspection.guess import REQUIRED, guess_columns
from peftrec.data.reading.names import NAMES
from peftrec.data.reading.other_times import refuse_other_times
from peftrec.data.reading.places import naming_files
from peftrec.data.reading.table_files import SEPARATORS
from peftrec.data.reading.tables import read_table
from peftrec.errors import SchemaError

COLUMNS = "columns.json"
"""File with the mappings: ``{"events": {"user_id": "customer"}}``, our name -> the column's name in the file."""

CATALOG, EVENTS, PROFILES, PROMOTIONS = "catalog", "events", "profiles", "promotions"

STEMS = {
    CATALOG: ("catalog", "catalogue", "items", "products"),
    EVENTS: ("events", "interactions", "transactions"),
    PROFILES: ("profiles", "users"),
    PROMOTIONS: ("promotions",),
}
"""Table -> what its file may be called, whatever the ending; ``columns.json`` takes any of these names as well."""

ENDINGS = (*SEPARATORS, ".parquet")

_SPOKEN = {CATALOG: "catalogue"}
_SAMPLE = 20_000


@dataclass(frozen=True)
class _File:
    path: Path
    frame: pl.DataFrame
    columns: Mapping[str, str]


def load_files(path: Path, rules: CleaningRules | None = None) -> Dataset:
    """Reads a folder with ``catalog``, ``events`` and, if they are known, ``profiles`` and ``promotions``.

    Each is one file in .csv, .tsv or .parquet and may go by another name of ``STEMS``, such as ``products.csv`` or
    ``transactions.parquet``. Columns have peftrec's names, or ``columns.json`` says which is which; nothing is renamed by
    guess. ``peftrec data inspect FILE`` proposes a mapping. The data set is called like the folder.

    Args:
        path: The folder.
        rules: Which rows to drop; all rules but those that are off by default if not given.

    Raises:
        SchemaError: A file is missing, doubled, unreadable or called almost like one of these; a column is missing, and
            the message shows the ``columns.json`` that would work; ``columns.json`` is broken; more than one in a
            hundred timestamps are written in another form than ISO 8601, and the message shows the expression that
            reads them; or a value has a wrong type.
        InvalidValueError: An id of the catalogue or the profiles is missing or appears twice.
        NotEnoughDataError: A table is empty, or cleaning leaves no event.
    """
    folder = Path(path)
    paths = _paths(folder)
    mappings = _mappings(folder, paths)
    files = {name: _File(file, _read(name, file), mappings.get(name, {})) for name, file in paths.items()}
    _refuse_missing(folder, files)
    _refuse_other_times(files[EVENTS])
    given = {_SPOKEN.get(name, name): (file.path, file.columns) for name, file in files.items()}
    profiles, promotions = files.get(PROFILES), files.get(PROMOTIONS)
    with naming_files(**given):
        return Dataset.build(
            name=folder.resolve().name,
            catalog=files[CATALOG].frame,
            events=files[EVENTS].frame,
            profiles=None if profiles is None else profiles.frame,
            promotions=None if promotions is None else promotions.frame,
            catalog_columns=files[CATALOG].columns,
            event_columns=files[EVENTS].columns,
            profile_columns=None if profiles is None else profiles.columns,
            promotion_columns=None if promotions is None else promotions.columns,
            rules=rules,
        )


def _paths(folder: Path) -> dict[str, Path]:
    try:
        inside = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS)
    except OSError as error:
        raise SchemaError(
            f"{folder} is no folder that can be read: {error}",
            expected="a folder with catalog.*, events.* and, if they are known, profiles.* and promotions.*",
            remedy="pass the folder, not one of the files in it",
        ) from error
    found = {name: [file for file in inside if file.stem.lower() in stems] for name, stems in STEMS.items()}
    for name, files in found.items():
        if len(files) > 1:
            raise SchemaError(
                f"{folder} holds more than one file of {name}: {', '.join(file.name for file in files)}",
                expected=f"one of {', '.join(STEMS[name])}, in one of {', '.join(ENDINGS)}",
                remedy="join them into one, or move the others away",
            )
    others = [file for file in inside if not any(file in files for files in found.values())]
    for name in (CATALOG, EVENTS):
        if not found[name]:
            raise _no_file(folder, name, [file.name for file in others])
    for file in others:
        _refuse_near_miss(file)
    return {name: files[0] for name, files in found.items() if files}


def _no_file(folder: Path, name: str, others: list[str]) -> SchemaError:
    shown = ", ".join(others[:10]) or f"no table that ends in {', '.join(ENDINGS)}"
    return SchemaError(
        f"{folder} holds no file of {name}; besides those it knows it holds {shown}",
        expected=f"a file called {', '.join(STEMS[name])}, in one of {', '.join(ENDINGS)}",
        remedy=f"rename the file of {name} to {STEMS[name][0]}{Path(others[0]).suffix if others else '.csv'}"
        if others
        else "write the table as CSV or Parquet into the folder",
    )


def _refuse_near_miss(file: Path) -> None:
    """A table whose name is almost one of ours would be left out without a word."""
    stems = [stem for stems in STEMS.values() for stem in stems]
    close = get_close_matches(file.stem.lower(), stems, n=1, cutoff=0.8)
    if close:
        raise SchemaError(
            f"{file} is called almost like one of the tables",
            expected=f"one of the names {', '.join(stems)}, or another one altogether",
            remedy=f"rename it to {close[0]}{file.suffix} if it is that table; move it away if it is not",
        )


def _mappings(folder: Path, paths: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    file = folder / COLUMNS
    if not file.exists():
        return {}
    try:
        given = cast(object, json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=_once))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(file, f"cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise _broken(file, f"holds {type(given).__name__} instead of an object")
    mappings = dict[str, dict[str, str]]()
    for key, value in cast("dict[str, object]", given).items():
        name = next((name for name, stems in STEMS.items() if key.lower() in stems), None)
        if name is None:
            raise _broken(file, f"names a table '{key}'; the tables are {', '.join(STEMS)}")
        if name in mappings:
            raise _broken(file, f"names the table '{name}' twice")
        if name not in paths:
            raise _broken(file, f"has a mapping for '{key}', of which there is no file")
        if not isinstance(value, dict) or not all(
            isinstance(theirs, str) for theirs in cast("dict[str, object]", value).values()
        ):
            raise _broken(file, f"has {json.dumps(value)[:60]} for '{key}' instead of names")
        mappings[name] = cast("dict[str, str]", value)
    return mappings


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object of JSON; of two entries with one name it would keep the last without a word."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"'{twice}' stands twice in one object")
    return dict(pairs)


def _broken(file: Path, told: str) -> SchemaError:
    return SchemaError(
        f"{file} {told}",
        expected="an object of objects, our name -> yours",
        remedy='write it like this: {"events": {"user_id": "customer", "item_id": "sku"}}',
    )


def _read(name: str, file: Path) -> pl.DataFrame:
    return read_table(file, what=_SPOKEN.get(name, name))


def _refuse_missing(folder: Path, files: Mapping[str, _File]) -> None:
    """Raises if a column is missing in any file, with the mappings of all files that would work."""
    missing = {name: _missing(name, file) for name, file in files.items()}
    if not any(missing.values()):
        return
    proposal = dict[str, dict[str, str]]()
    for name, file in files.items():
        kept = _kept(file, missing[name])
        mapping = kept | (_proposed(name, file, kept) if missing[name] else {})
        proposal |= {name: mapping} if mapping else {}
    told = "; ".join(_told(files[name], names) for name, names in missing.items() if names)
    raise SchemaError(
        f"in {folder}, {told}",
        expected="peftrec's names for the columns that a table must have, or a mapping to them",
        remedy=f"write into {folder / COLUMNS}, after a check: {json.dumps(proposal, ensure_ascii=False)}",
    )


def _absent(file: _File) -> dict[str, str]:
    """What a mapping takes from columns that are not there."""
    return {ours: theirs for ours, theirs in file.columns.items() if theirs not in file.frame.columns}


def _told(file: _File, missing: list[str]) -> str:
    absent = _absent(file)
    none = [ours for ours in missing if ours not in absent]
    parts = [f"{file.path.name} has no column {' and no '.join(map(repr, none))}"] if none else []
    parts += [f"{COLUMNS} takes {ours!r} of {file.path.name} from {theirs!r}" for ours, theirs in absent.items()]
    return f"{', and '.join(parts)}; the file has {', '.join(map(repr, file.frame.columns[:20]))}"


def _missing(name: str, file: _File) -> list[str]:
    """Required columns that are not there, and those that the mapping takes from nowhere."""
    present = {*file.frame.columns}.difference(file.columns.values()) | {*file.columns}
    required = [ours for ours in _required(name) if not (ours == col.TIME and POSITION in present)]
    return list(dict.fromkeys([*(ours for ours in required if ours not in present), *_absent(file)]))


def _required(name: str) -> tuple[str, ...]:
    return REQUIRED[_SPOKEN.get(name, name)]


def _kept(file: _File, missing: list[str]) -> dict[str, str]:
    """What can stay of a mapping; a misspelt name of ours is corrected."""
    kept = {ours: theirs for ours, theirs in file.columns.items() if theirs in file.frame.columns}
    meant = {ours: get_close_matches(ours, missing, n=1, cutoff=0.75) for ours in kept}
    return {(meant[ours] or [ours])[0] if ours not in NAMES else ours: theirs for ours, theirs in kept.items()}


def _proposed(name: str, file: _File, kept: Mapping[str, str]) -> dict[str, str]:
    """A guess for what is missing, from names and values; for a message only."""
    free = file.frame.head(_SAMPLE).drop(kept.values())
    guess = guess_columns([facts_of(column) for column in free], _SPOKEN.get(name, name))
    wanted = [*_required(name), *_absent(file)]
    if POSITION in guess.matches and col.TIME not in kept:
        wanted = [POSITION if ours == col.TIME else ours for ours in wanted]
    wanted = [ours for ours in dict.fromkeys(wanted) if ours not in kept and ours not in free.columns]
    return {ours: guess.matches[ours].theirs if ours in guess.matches else "<your column>" for ours in wanted}


def _refuse_other_times(events: _File) -> None:
    name = events.columns.get(col.TIME, col.TIME)
    values = events.frame.get_column(name, default=None)
    if values is not None:
        with naming_files(events=(events.path, events.columns)):
            refuse_other_times(values, name=name)
