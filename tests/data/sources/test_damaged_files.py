"""Damaged files of every source end in a data set whose report adds up, or in an error of ours; never in anything else."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from peftrec.data import Dataset, load_dataset, stream_events
from peftrec.errors import PeftrecError

TIMES = int(os.environ.get("PEFTREC_FUZZ", "40"))
"""Damaged copies of each set of files; more where the environment says so."""

ITEMS = [("B001", "Green tea, 12 oz", "Tea"), ("B002", "Kettle <b>steel</b>", "Kitchen"), ("B003", "Tea pot", "")]
ROWS = [(f"U{n % 4}", ITEMS[n % 3][0], 1_500_000_000 + 90_000 * n, 1 + n % 5) for n in range(12)]

Files = dict[str, str]


def lines(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


def as_json(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


AMAZON_2018: Files = {
    "Office.json": as_json(
        [
            {"reviewerID": user, "asin": item, "overall": float(rating), "unixReviewTime": time, "verified": True}
            for user, item, time, rating in ROWS
        ]
    ),
    "meta_Office.json": as_json(
        [
            {"asin": item, "title": title, "brand": "Best", "category": ["Office", kind], "price": "$3.20"}
            for item, title, kind in ITEMS
        ]
    ),
}
AMAZON_2023: Files = {
    "Office.csv": lines(
        "user_id,parent_asin,rating,timestamp",
        [f"{user},{item},{rating}.0,{time}000" for user, item, time, rating in ROWS],
    ),
    "meta_Office.jsonl": as_json(
        [
            {"parent_asin": item, "title": title, "main_category": "Office", "categories": [kind], "price": 3.2}
            for item, title, kind in ITEMS
        ]
    ),
}
RECBOLE: Files = {
    "shop.inter": lines(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float",
        [f"{user}\t{item}\t{rating}\t{time}" for user, item, time, rating in ROWS],
    ),
    "shop.item": lines("item_id:token\ttitle:token_seq\tclass:token_seq", ["\t".join(item) for item in ITEMS]),
    "shop.user": lines("user_id:token\tage:float", [f"U{n}\t{20 + n}" for n in range(4)]),
}
PERSONALIZE: Files = {
    "interactions.csv": lines(
        "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE",
        [f"{user},{item},{time},{('View', 'Purchase')[rating % 2]}" for user, item, time, rating in ROWS],
    ),
    "items.csv": lines(
        "ITEM_ID,ITEM_NAME,CATEGORY_L1,PRICE", [f'{item},"{title}",{kind},3.2' for item, title, kind in ITEMS]
    ),
    "users.csv": lines("USER_ID,AGE", [f"U{n},{20 + n}" for n in range(4)]),
}


def pages(separator: str) -> Files:
    kinds = ("home", "product", "cart", "confirmation")
    rows = [
        separator.join(
            [str(n // 4), f"2024-01-0{1 + n % 4}T10:0{n % 10}:00", kinds[n % 4], ROWS[n][1], "30", "google.com"]
        )
        for n in range(12)
    ]
    return {
        "pages.csv": lines(
            separator.join(["session_id", "timestamp", "page_type", "item_id", "seconds", "referrer"]), rows
        )
    }


INVOICES: Files = {
    "invoices.csv": lines(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        [
            f'{5000 + n},{item},"WHITE, {title.upper()}",{rating},12/{1 + n}/2010 8:26,2.55,{user[1:]},France'
            for n, ((user, item, _, rating), (_, title, _)) in enumerate(zip(ROWS, ITEMS * 4, strict=True))
        ],
    )
}
PLAIN: Files = {
    "events.csv": lines(
        "user_id,item_id,timestamp,price",
        [f"{user},{item},2024-01-0{rating}T10:00:00,2.5" for user, item, _, rating in ROWS],
    ),
    "catalog.csv": lines("item_id,title", [f'{item},"{title}"' for item, title, _ in ITEMS]),
}


def by_name(name: str, *, file: str = "") -> Callable[[Path], Dataset]:
    return lambda folder: load_dataset(name, folder / file if file else folder)


def streamed(folder: Path) -> Dataset:
    log = stream_events(folder / "events.csv", folder / "catalog.csv", folder=folder / "log", shards=2, progress=False)
    assert log.report.rows_in == log.report.rows_kept + log.report.rows_dropped
    return next(iter(log.shards()))


CASES: dict[str, tuple[Files, Callable[[Path], Dataset]]] = {
    "amazon 2018": (AMAZON_2018, by_name("amazon")),
    "amazon 2023": (AMAZON_2023, by_name("amazon")),
    "recbole": (RECBOLE, by_name("recbole")),
    "personalize": (PERSONALIZE, by_name("personalize")),
    "sessions, commas": (pages(","), by_name("sessions", file="pages.csv")),
    "sessions, semicolons": (pages(";"), by_name("sessions", file="pages.csv")),
    "online_retail": (INVOICES, by_name("online_retail", file="invoices.csv")),
    "files": (PLAIN, by_name("files")),
    "streamed": (PLAIN, streamed),
}


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three wounds: a byte changed, a piece lost, a line doubled or joined to the next, marks put where none belong."""
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, max(1, len(content))))
        end = at + int(rng.integers(1, 20))
        mark = [b'"', b",", b";", b"\t", b"\r", b"\n", b"\x00", b"\xff\xfe", b"{", "é".encode("latin-1")][
            rng.integers(10)
        ]
        content = (
            content[:at] + bytes([int(rng.integers(256))]) + content[at + 1 :],
            content[:at] + content[end:],
            content[:at],
            content[:at] + mark + content[at:],
            content[:at] + content[at:end] * 2 + content[end:],
            content.replace(b"\n", b"", 1),
        )[rng.integers(6)]
    return content


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_undamaged_files_load(case: str, tmp_path: Path):
    files, load = CASES[case]
    assert len(load(write(tmp_path / "whole", {name: text.encode() for name, text in files.items()})).events)


@pytest.mark.parametrize("case", CASES)
def test_damaged_files_end_in_an_account_or_in_an_error_of_ours(case: str, tmp_path: Path):
    files, load = CASES[case]
    rng = np.random.default_rng(0)
    outcomes = {"loaded": 0, "refused": 0}
    for attempt in range(TIMES):
        content = {name: text.encode() for name, text in files.items()}
        victim = sorted(content)[int(rng.integers(len(content)))]
        content[victim] = damaged(content[victim], rng)
        try:
            dataset = load(write(tmp_path / str(attempt), content))
        except PeftrecError:
            outcomes["refused"] += 1
        else:
            assert dataset.report is not None
            assert dataset.report.rows_in == dataset.report.rows_kept + dataset.report.rows_dropped
            outcomes["loaded"] += 1
    assert outcomes["refused"]  # some wounds must show
