"""MovieLens 100K: files that are true to RecBole's, and the real ones where they are at hand."""

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from peftrec.data import CleaningRules, Dataset
from peftrec.data.sources import movielens
from peftrec.data.sources.movielens import INSTALL, SOURCE, load_movielens
from peftrec.errors import MissingExtraError, SchemaError, UnknownItemError

FILES = {
    "ml-100k.inter": """user_id:token\titem_id:token\trating:float\ttimestamp:float
1\t242\t3\t881250949
2\t302\t1\t891717742
1\t302\t4\t881250949
2\t9999\t5\t891717743
""",
    "ml-100k.item": """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
242\tKolya\t1996\tComedy
302\tL.A. Confidential\t1997\tCrime Film-Noir Mystery Thriller
267\tunkonwn\tunkonwn\tunknown
1412\tLand Before Time III: The Time of the Great Giving (1995)\tV\tAnimation Children's
""",
    "ml-100k.user": """user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token
1\t24\tM\ttechnician\t05711
2\t53\tF\tother\tT8H1N
""",
    "ml-100k.link": "item_id:token\tentity_id:token\n242\tm.08gjyx\n",
}
INSIDE = "recbole/dataset_example/ml-100k"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / INSIDE
    inside.mkdir(parents=True)
    for name, text in FILES.items():
        (inside / name).write_text(text, encoding="utf-8")
    return inside


def counts(dataset: Dataset) -> dict[str, int]:
    assert dataset.report is not None
    return {count.rule: count.rows for count in dataset.report.counts if count.rows}


def test_a_rating_is_a_purchase(folder: Path):
    dataset = load_movielens(folder)
    events = dataset.events.frame
    assert events.select("user_id", "item_id", "event", "rating").rows() == [
        ("1", "242", "purchase", 3.0),
        ("1", "302", "purchase", 4.0),
        ("2", "302", "purchase", 1.0),
    ]
    assert f"{events['timestamp'][0]:%Y-%m-%d %H:%M:%S %Z}" == "1997-12-04 15:55:49 UTC"
    assert dataset.source == SOURCE
    assert dataset.name == "movielens"


def test_films_and_viewers(folder: Path):
    dataset = load_movielens(folder)
    films = dataset.catalog.frame.select("item_id", "title", "category", "release_year").rows()
    assert films == [
        ("242", "Kolya", "Comedy", "1996"),
        ("302", "L.A. Confidential", "Crime, Film-Noir, Mystery, Thriller", "1997"),
        ("267", "unknown product 267", None, None),
        ("1412", "Land Before Time III: The Time of the Great Giving (1995)", "Animation, Children's", "1995"),
    ]
    assert dataset.profiles is not None
    assert dataset.profiles.frame.columns == ["user_id", "age", "gender", "occupation", "zip_code"]
    assert dataset.profiles.frame.rows() == [("1", 24, "M", "technician", "05711"), ("2", 53, "F", "other", "T8H1N")]


def test_every_line_is_accounted_for(folder: Path):
    dataset = load_movielens(folder)
    report = dataset.report
    assert report is not None
    assert counts(dataset) == {"unknown_item": 1, "empty_title": 1, "unknown_year": 1}
    assert (report.rows_in, report.rows_kept, report.products) == (4, 3, 4)
    with pytest.raises(UnknownItemError, match="9999"):
        load_movielens(folder, CleaningRules(unknown_item=False))


def test_a_wheel_is_read_as_it_is(folder: Path, tmp_path: Path):
    wheel = tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            archive.write(folder / name, f"{INSIDE}/{name}")
    assert load_movielens(wheel).digest == load_movielens(folder).digest
    wheel.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(SchemaError, match="cannot be read"):
        load_movielens(wheel)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("recbole/__init__.py", "")
    with pytest.raises(SchemaError, match="no file of interactions"):
        load_movielens(wheel)


def test_the_package_is_found_and_not_imported(folder: Path, monkeypatch: pytest.MonkeyPatch):
    expected = load_movielens(folder).digest
    package = folder.parents[1]
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    assert load_movielens().digest == expected
    assert "recbole" not in sys.modules


def test_without_the_package_its_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(movielens, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="not installed") as caught:
        load_movielens()
    assert caught.value.remedy == INSTALL == "pip install --no-deps recbole==1.2.1"
    monkeypatch.undo()
    (tmp_path / "recbole").mkdir()
    (tmp_path / "recbole/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="files are not there"):
        load_movielens()


def test_an_age_that_is_no_number_is_named(folder: Path):
    text = FILES["ml-100k.user"].replace("53", "old")
    (folder / "ml-100k.user").write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=r"'age' of the profiles.*'old'"):
        load_movielens(folder)


def test_the_real_ratings(data_folder: Path):
    wheels = sorted(data_folder.glob("recbole-*.whl"))
    path = data_folder / "movielens" if (data_folder / "movielens").is_dir() else wheels[-1] if wheels else None
    if path is None and find_spec("recbole") is None:
        pytest.skip(f"recbole is not installed, and {data_folder} holds neither movielens/ nor a wheel of recbole")
    dataset = load_movielens(path)
    report = dataset.report
    assert report is not None
    assert report.rows_in == report.rows_kept + report.rows_dropped == 100_000
    assert counts(dataset) == {"empty_title": 1, "near_duplicate": 18, "unknown_year": 1}
    assert len(dataset.catalog) == 1_682
    assert dataset.profiles is not None
    assert len(dataset.profiles) == dataset.events.frame["user_id"].n_unique() == 943
    assert dataset.events.frame["rating"].value_counts(sort=True)["rating"].to_list() == [4, 3, 5, 2, 1]
    assert dataset.catalog.frame["title"].str.contains("Misérables").any()
    assert "recbole" not in sys.modules
