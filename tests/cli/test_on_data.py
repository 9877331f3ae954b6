"""Train, evaluate and recommend from the command line, on real households."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from peftrec.cli.main import app
from peftrec.data import Catalog, Dataset, register_dataset
from peftrec.errors import (
    ConfigError,
    IncompatibleAdapterError,
    NotEnoughDataError,
    RegistryError,
    UnknownUserError,
)
from peftrec.model import Adapter
from peftrec.registry import Registry


@pytest.fixture(scope="module")
def data(grocery: Dataset) -> list[str]:
    register_dataset("households", lambda *_: grocery)
    return ["--dataset", "households"]


@pytest.fixture(scope="module")
def registry(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("registry")
    words = ["train", "grocery", *data, "--at", "2017-11-27T05:00", "--epochs", "0.1", "--registry", str(folder)]
    done = ask(*words)
    assert done.exit_code == 0, done.output
    assert "published grocery@1" in done.output
    assert "alias production" in done.output
    return folder


def ask(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_evaluate_prints_a_table_or_rows(data: list[str], registry: Path):
    words = ["evaluate", "grocery", *data, "--registry", str(registry), "--no-baselines"]
    assert "NDCG@10" in ask(*words).output
    done = ask(*words, "--json")
    rows = json.loads(done.stdout[done.stdout.index("[") :])
    assert {row["metric"] for row in rows} >= {"ndcg@10", "hit_rate@10", "recall@20", "mrr", "auc", "ece"}


def test_recommend_to_a_known_and_to_a_new_shopper(data: list[str], registry: Path, grocery: Dataset):
    words = ["recommend", "grocery", *data, "--registry", str(registry), "--k", "3", "--json"]
    known = json.loads(ask(*words, "--user", grocery.users[0]).stdout)
    new = json.loads(ask(*words, "--item", grocery.catalog.ids[0]).stdout)
    for found in (known, new):
        assert len(found) == 3
        assert all(0 <= entry["probability"] <= 1 and entry["title"] for entry in found)
    assert "probability" in ask(*words[:-1]).output


def test_titles_are_no_markup(registry: Registry, trained: Adapter, grocery: Dataset, tmp_path: Path):
    frame = grocery.catalog.frame.with_columns(pl.col("title") + " [/n] [green]")
    shop = replace(grocery, catalog=Catalog(frame))
    register_dataset("marked", lambda *_: shop)
    Registry(tmp_path).publish("marked", trained)
    done = ask("recommend", "marked", "--dataset", "marked", "--registry", str(tmp_path), "--k", "2")
    assert done.exit_code == 0, done.exception
    assert "[/n]" in done.output


def test_a_name_that_cannot_be_published_is_refused_before_training(data: list[str], tmp_path: Path):
    done = ask("train", "My Shop", *data, "--registry", str(tmp_path))
    assert isinstance(done.exception, RegistryError)
    assert "rows" not in done.output  # not even the data was read


def test_a_stranger_is_a_typed_error(data: list[str], registry: Path):
    done = ask("recommend", "grocery", *data, "--registry", str(registry), "--user", "nobody")
    assert isinstance(done.exception, UnknownUserError)


def test_another_backbone_is_refused(data: list[str], registry: Path, tiny_bert_folder: Path):
    done = ask("recommend", "grocery", *data, "--registry", str(registry), "--backbone", str(tiny_bert_folder))
    assert isinstance(done.exception, IncompatibleAdapterError)


def test_what_a_killed_publisher_left_disturbs_nobody(data: list[str], registry: Path, tmp_path: Path):
    copy = shutil.copytree(registry, tmp_path / "copy")
    (copy / "grocery" / "2").mkdir()  # half-copied by hand: no manifest
    shutil.copytree(copy / "grocery" / "1", copy / "grocery" / ".new-3")
    (copy / "grocery" / ".new-3" / "manifest.json").unlink()
    assert "grocery" in ask("registry", "list", "--registry", str(copy)).output
    assert Registry(copy).open("grocery").version == "1"
    done = ask("recommend", "grocery", *data, "--registry", str(copy), "--k", "1", "--json")
    assert len(json.loads(done.stdout)) == 1


def test_a_data_set_that_comes_as_files(tmp_path: Path):
    words = ["train", "gifts", "--dataset", "online_retail", "--registry", str(tmp_path / "registry")]
    assert isinstance(ask(*words).exception, ConfigError)
    invoices = tmp_path / "invoices.csv"
    head = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"
    invoices.write_text(f"{head}\n536365,85123A,WHITE HEART,6,12/1/2010 8:26,2.55,17850,France\n", encoding="utf-8")
    done = ask(*words, "--data", str(invoices))
    assert "Cleaning of online_retail: 1 events in, 1 kept" in done.output
    assert isinstance(done.exception, NotEnoughDataError)
    assert not list((tmp_path / "registry").glob("gifts/[0-9]*"))
