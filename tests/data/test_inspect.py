"""A look at a file guesses right on the exports of known platforms, says why, and its call works as printed."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from peftrec.cli.main import app
from peftrec.data import Dataset
from peftrec.data.inspect import Inspection, inspect
from peftrec.errors import SchemaError

SHOPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "online retail": (
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        "536365,85123A,WHITE HANGING HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom\n"
        "536366,71053,WHITE METAL LANTERN,2,12/13/2010 8:28,3.39,17850,United Kingdom\n"
        "536367,85123A,WHITE HANGING HEART,2,12/14/2010 8:28,2.55,13047,France\n",
        "events",
        {
            "user_id": "CustomerID",
            "item_id": "StockCode",
            "timestamp": "InvoiceDate",
            "quantity": "Quantity",
            "price": "UnitPrice",
            "session_id": "InvoiceNo",
        },
    ),
    "retailrocket": (
        "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n"
        "1433224214164,992329,addtocart,248676,\n1433221999827,111016,transaction,355908,4000\n",
        "events",
        {"user_id": "visitorid", "item_id": "itemid", "session_id": "transactionid"},
    ),
    "h&m transactions": (
        "t_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,000058a,0663713001,0.0508,2\n"
        "2018-09-20,000058a,0541518023,0.0305,2\n2018-09-21,00007d2,0663713001,0.0508,1\n",
        "events",
        {"user_id": "customer_id", "item_id": "article_id", "timestamp": "t_dat", "channel": "sales_channel_id"},
    ),
    "h&m articles": (
        "article_id,product_code,prod_name,product_type_name,detail_desc\n"
        "0108775015,0108775,Strap top,Vest top,Jersey top with narrow shoulder straps.\n"
        "0108775044,0108775,Strap top,Vest top,Jersey top with narrow shoulder straps.\n"
        "0110065001,0110065,OP T-shirt,Bra,Microfibre T-shirt bra with underwired cups.\n",
        "catalogue",
        {
            "item_id": "article_id",
            "title": "prod_name",
            "description": "detail_desc",
            "category": "product_type_name",
        },
    ),
    "instacart products": (
        "product_id,product_name,aisle_id,department_id\n1,Chocolate Sandwich Cookies,61,19\n2,All-Seasons Salt,104,13\n",
        "catalogue",
        {"item_id": "product_id", "title": "product_name", "category": "department_id"},
    ),
    "rees46": (
        "event_time,event_type,product_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,electronics.phone,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:01 UTC,cart,3900821,appliances,aqua,33.20,554748717,9333dfbd\n"
        "2019-10-01 00:00:04 UTC,purchase,44600062,electronics.phone,shiseido,35.79,541312140,72d76fde\n",
        "events",
        {"item_id": "product_id", "timestamp": "event_time", "event": "event_type", "session_id": "user_session"},
    ),
    "shopify": (
        "Name,Email,Created at,Lineitem quantity,Lineitem name,Lineitem price,Lineitem sku\n"
        "#1001,a@b.c,2019-10-01 00:00:00 -0400,1,Red Shirt,19.00,RS\n"
        "#1002,d@e.f,2019-10-02 00:00:00 -0400,2,Blue Mug,5.00,BM\n"
        "#1002,d@e.f,2019-10-02 00:00:00 -0400,1,Red Shirt,19.00,RS\n",
        "events",
        {
            "user_id": "Email",
            "item_id": "Lineitem sku",
            "timestamp": "Created at",
            "quantity": "Lineitem quantity",
            "price": "Lineitem price",
        },
    ),
    "woocommerce": (
        "ID,Type,SKU,Name,Description,Regular price,Categories,Images\n"
        "11,simple,w1,Beanie hat,A warm hat,20,Hats,https://a.b/c.jpg\n"
        "12,simple,w2,Woo Album,All songs,15,Music,https://a.b/d.jpg\n",
        "catalogue",
        {
            "item_id": "SKU",
            "title": "Name",
            "description": "Description",
            "category": "Categories",
            "price": "Regular price",
            "image": "Images",
        },
    ),
    "ga4": (
        "event_date,event_timestamp,event_name,user_pseudo_id,items.item_id,items.price,ga_session_id\n"
        "20210131,1612069510766593,view_item,1026454.4271,G1,12,1\n"
        "20210131,1612069510766594,add_to_cart,27.1,G2,9,2\n20210131,1612069510766595,purchase,27.1,G1,12,2\n",
        "events",
        {
            "user_id": "user_pseudo_id",
            "item_id": "items.item_id",
            "timestamp": "event_timestamp",
            "event": "event_name",
            "price": "items.price",
            "session_id": "ga_session_id",
        },
    ),
    "dunnhumby": (
        "household_key,BASKET_ID,PRODUCT_ID,QUANTITY,SHOP_DATE,STORE_ID\n2375,26984851472,1004906,1,20060413,364\n"
        "2375,26984851472,1033142,1,20060413,364\n2376,26984851473,1004906,2,20060414,364\n",
        "events",
        {
            "user_id": "household_key",
            "item_id": "PRODUCT_ID",
            "timestamp": "SHOP_DATE",
            "quantity": "QUANTITY",
            "session_id": "BASKET_ID",
            "channel": "STORE_ID",
        },
    ),
    "german": (
        "Kundennummer;Artikelnr.;Bestelldatum;Menge;Einzelpreis\n1;A1;01.12.2010 08:00;1;1.234,50\n"
        "2;A2;13.12.2010 09:00;2;2,50\n2;A1;14.12.2010 10:00;3;1.234,50\n",
        "events",
        {
            "user_id": "Kundennummer",
            "item_id": "Artikelnr.",
            "timestamp": "Bestelldatum",
            "quantity": "Menge",
            "price": "Einzelpreis",
        },
    ),
    "chinese": (
        "用户ID\t商品ID\t时间\t行为类型\n1\ta\t1511544070\tpv\n2\tb\t1511561733\tbuy\n1\ta\t1511572885\tfav\n",
        "events",
        {"user_id": "用户ID", "item_id": "商品ID", "timestamp": "时间", "event": "行为类型"},
    ),
    "otto": (
        '{"session": 1, "aid": 2, "ts": 1659304800025, "type": "clicks"}\n'
        '{"session": 1, "aid": 29, "ts": 1659304904511, "type": "carts"}\n'
        '{"session": 2, "aid": 2, "ts": 1659304904511, "type": "orders"}\n',
        "events",
        {"user_id": "session", "item_id": "aid", "timestamp": "ts", "event": "type"},
    ),
    "promotions": (
        "SKU,Valid From,Valid To,Promo Type\na,2020-01-01,2020-01-08,feature\nb,2020-02-01,2020-02-08,display\n",
        "promotions",
        {"item_id": "SKU", "start": "Valid From", "end": "Valid To", "kind": "Promo Type"},
    ),
    "customers": ("CustomerKey,Age,Club\nc1,49,ACTIVE\nc2,25,\nc3,30,ACTIVE\n", "profiles", {"user_id": "CustomerKey"}),
    "order only": (
        "user_id,item_id,position\nu,a,1\nu,b,2\nv,a,1\n",
        "events",
        {},
    ),
}


def written(folder: Path, shop: str) -> Path:
    """The export of a shop; the name of the file tells nothing."""
    text = SHOPS[shop][0]
    ending = "jsonl" if text.startswith("{") else "tsv" if "\t" in text else "csv"
    path = folder / f"export.{ending}"
    path.write_text(text, encoding="utf-8")
    return path


def wares(found: Inspection) -> dict[str, list[str]]:
    """A catalogue of the products in a short file of events."""
    items = next(column.examples for column in found.columns if column.becomes == "item_id")
    return {"item_id": [*items], "title": [f"product {item}" for item in items]}


def run(found: Inspection, **others: object) -> Dataset:
    """What the printed code builds, with the tables that it leaves open."""
    code = found.call
    names = {"<your events>": "given_events", "<your catalogue>": "given_catalogue"}
    for placeholder, name in names.items():
        code = code.replace(repr(placeholder), name)
    space: dict[str, object] = {f"given_{name}": table for name, table in others.items()}
    exec(code, space)  # the call is there to be pasted
    shop = space["shop"]
    assert isinstance(shop, Dataset)
    return shop


@pytest.mark.parametrize("shop", sorted(SHOPS))
def test_exports_are_recognised(shop: str, tmp_path: Path):
    _, table, mapping = SHOPS[shop]
    found = inspect(written(tmp_path, shop))
    assert (found.table, found.mapping, found.missing, found.refused) == (table, mapping, (), "")
    assert all(column.why for column in found.columns)
    assert max(len(line) for line in str(found).partition("The call")[0].splitlines()) <= 100


@pytest.mark.parametrize("shop", sorted(shop for shop, (_, table, _) in SHOPS.items() if table == "events"))
def test_the_printed_call_keeps_every_row(shop: str, tmp_path: Path):
    found = inspect(written(tmp_path, shop))
    dataset = run(found, catalogue=wares(found))
    assert dataset.report is not None
    assert (dataset.report.rows_in, dataset.report.rows_dropped) == (found.rows, 0)
    assert found.cleaning is not None
    assert found.cleaning.rows_kept == found.rows


def test_moments_come_out_right(tmp_path: Path):
    months = {"online retail": "2010-12-01 08:26", "retailrocket": "2015-06-02 05:02", "rees46": "2019-10-01 00:00"}
    months |= {"shopify": "2019-10-01 04:00", "ga4": "2021-01-31 05:05", "dunnhumby": "2006-04-13 00:00"}
    months |= {"german": "2010-12-01 08:00", "chinese": "2017-11-24 17:21", "otto": "2022-07-31 22:00"}
    for shop, moment in months.items():
        found = inspect(written(tmp_path, shop))
        dataset = run(found, catalogue=wares(found))
        assert f"{dataset.start:%Y-%m-%d %H:%M}" == moment, shop


def test_words_for_events_are_translated(tmp_path: Path):
    found = inspect(written(tmp_path, "ga4"))
    dataset = run(found, catalogue={"item_id": ["G1", "G2"], "title": ["tee", "mug"]})
    assert dataset.events.frame["event"].to_list() == ["view", "cart", "purchase"]
    path = tmp_path / "codes.csv"
    path.write_text("user_id,item_id,timestamp,behavior_type\nu,a,2020-01-01,4\nu,b,2020-01-02,1\n", encoding="utf-8")
    change = next(change for change in inspect(path).changes if change.becomes == "event")
    assert "'4': 'purchase'" in change.code
    assert "guess" in change.doubt


def test_what_no_rule_knows_is_told_before_it_is_dropped(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text(SHOPS["rees46"][0].replace("cart", "remove_from_cart"), encoding="utf-8")
    found = inspect(path)
    assert found.cleaning is not None
    assert {count.rule: count.rows for count in found.cleaning.counts if count.rows} == {"unknown_event": 1}
    assert "row 1: event 'remove_from_cart'" in str(found)
    assert any("'remove_from_cart' are dropped by the rule unknown_event" in note for note in found.notes)


def test_facts_of_columns(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text("user_id,item_id,timestamp,note\nu,a,2020-01-01,\nv,a,bad, \nu,b,,x\n", encoding="utf-8")
    found = inspect(path)
    facts = {column.name: (round(column.missing, 2), column.distinct, column.examples) for column in found.columns}
    assert facts == {
        "user_id": (0, 2, ("u", "v")),
        "item_id": (0, 2, ("a", "b")),
        "timestamp": (0.33, 2, ("2020-01-01", "bad")),
        "note": (0.67, 1, ("x",)),
    }
    assert found.cleaning is not None
    dropped = {count.rule: (count.rows, count.example) for count in found.cleaning.counts if count.rows}
    assert dropped == {
        "missing_timestamp": (1, "row 2: timestamp missing"),
        "unparsable_timestamp": (1, "row 1: timestamp 'bad'"),
    }


def test_three_forms_of_dates_are_told_apart_and_read(tmp_path: Path):
    path = tmp_path / "export.csv"
    rows = ["2020-01-01", "31.01.2020 10:00", "1580515200", "02.02.2020 10:00", "soon", "3 Feb 2020"]
    lines = "".join(f"u,{'ab'[at % 2]},{row}\n" for at, row in enumerate(rows))
    path.write_text(f"user_id,item_id,timestamp\n{lines}", encoding="utf-8")
    found = inspect(path)
    change = found.changes[0]
    for told in (
        "2 rows day.month.year with time, %d.%m.%Y %H:%M, first row 1",
        "1 rows ISO 8601, first row 0",
        "1 rows seconds since 1970, first row 2",
        "1 rows no moment that is recognised, first row 4: 'soon'",
        "1 rows day month year, %d %B %Y, first row 5",
    ):
        assert told in change.found
    dataset = run(found, catalogue={"item_id": ["a", "b"], "title": ["tea", "pot"]})
    days = [f"{moment:%m-%d %H}" for moment in dataset.events.frame["timestamp"]]
    assert days == ["01-01 00", "01-31 10", "02-01 00", "02-02 10", "02-03 00"]
    assert found.cleaning is not None
    assert found.cleaning.rows_dropped == 1  # "soon"


def test_a_doubt_between_day_and_month_is_told(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text("user_id,item_id,timestamp\nu,a,01/02/2020\nu,b,03/04/2020\n", encoding="utf-8")
    assert "whether the day or the month comes first is a guess" in inspect(path).changes[0].doubt
    path.write_text("user_id,item_id,timestamp\nu,a,01/02/2020\nu,b,01/14/2020\n", encoding="utf-8")
    change = inspect(path).changes[0]
    assert change.doubt == ""
    assert "month/day/year" in change.found


@pytest.mark.parametrize(
    ("discount", "found", "mean"),
    [
        (["10", "25"], "percent, not shares", 0.175),
        (["10%", "25 %"], "percent", 0.175),
        (["0,1", "0,25"], "comma", 0.175),
    ],
)
def test_discounts_become_shares(tmp_path: Path, discount: list[str], found: str, mean: float):
    path = tmp_path / "export.tsv"
    rows = "".join(f"u\t{item}\t2020-01-01\t{value}\n" for item, value in zip("ab", discount, strict=True))
    path.write_text(f"user_id\titem_id\ttimestamp\tRabatt\n{rows}", encoding="utf-8")
    look = inspect(path)
    assert found in look.changes[0].found
    dataset = run(look, catalogue={"item_id": ["a", "b"], "title": ["tea", "pot"]})
    assert dataset.events.frame["discount"].mean() == pytest.approx(mean)


def test_ids_are_compared_with_the_catalogue(tmp_path: Path):
    events, products = tmp_path / "export.csv", tmp_path / "wares.csv"
    events.write_text("customer,article,when\nu,17,2020-01-01\nu,18,2020-01-02\nv,x9,2020-01-03\n", encoding="utf-8")
    products.write_text("sku,name\n0017,Tea\n0018,Pot of tea\n00x9,Mug\n", encoding="utf-8")
    found = inspect(events, catalog=products)
    assert "3 of 3 item ids are not in" in str(found)
    assert any(".str.zfill(4)" in note for note in found.notes)
    products.write_text("sku,name\n17,Tea\n18,Pot of tea\n", encoding="utf-8")
    events.write_text(events.read_text(encoding="utf-8").replace("article", "what"), encoding="utf-8")
    found = inspect(events, catalog=products)
    assert found.mapping["item_id"] == "what"  # by its values: its name tells nothing
    assert found.cleaning is not None
    assert {count.rule: count.rows for count in found.cleaning.counts if count.rows} == {"unknown_item": 1}
    assert len(run(found).events) == 2
    products.write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(SchemaError, match="no column that looks like item_id or title"):
        inspect(events, catalog=products)


@pytest.mark.parametrize(
    ("name", "data", "says", "call"),
    [
        ("a.csv", b"user_id;item_id;timestamp\nu;a;2020-01-01\n", "separated by ';'", "separator=';'"),
        ("a.txt", b"user_id|item_id|timestamp\nu|a|2020-01-01\n", "separated by '|'", "separator='|'"),
        ("a.csv", "user_id,item_id,timestamp\nü,a,2020-01-01\n".encode("cp1252"), "CP1252", "encoding='cp1252'"),
        ("a.csv", "user_id\titem_id\ttimestamp\nü\ta\t2020-01-01\n".encode("utf-16"), "UTF-16", "encoding='utf-16'"),
        ("a.csv", b"sep=;\nuser_id;item_id;timestamp\nu;a;2020-01-01\n", "separated by ';'", "skip_rows=1"),
        ("a.csv", b"user_id,item_id,timestamp\ru,a,2020-01-01\r", "separated by ','", r"eol_char='\r'"),
        ("a.csv.gz", gzip.compress(b"user_id;item_id;timestamp\nu;a;2020-01-01\n", mtime=0), "gzip", "separator=';'"),
        ("a.json", b'[{"user_id": "u", "item_id": "a", "timestamp": "2020-01-01"}]', "one list", "pl.read_json("),
        ("a.json", b'{"user_id": "u", "item_id": "a", "timestamp": "2020-01-01"}\n', "JSON lines", "pl.read_ndjson("),
    ],
)
def test_every_form_is_read(tmp_path: Path, name: str, data: bytes, says: str, call: str):
    path = tmp_path / name
    path.write_bytes(data)
    found = inspect(path)
    assert says in found.form
    assert call in found.call
    dataset = run(found, catalogue={"item_id": ["a"], "title": ["tea"]})
    assert dataset.report is not None
    assert (dataset.report.rows_in, dataset.report.rows_kept) == (1, 1)


@pytest.mark.parametrize(
    ("text", "problem", "rows"),
    [
        ("u,a,2020-01-01\nu,b\nv,a,2020-01-02,x\n", "row 1 (counting from 0; line 3 of the file) has 2 of 3 fields", 3),
        ('u,a,2020-01-01\nu,b 5" nail,2020-01-02\nv,a,2020-01-02\n', "quotation mark", 3),
        ('u,"a,2020-01-01\nu,b,2020-01-02\n', "row 0 (counting from 0; line 2 of the file) has a quotation mark", 2),
    ],
)
def test_broken_text_is_looked_at_all_the_same(tmp_path: Path, text: str, problem: str, rows: int):
    path = tmp_path / "export.csv"
    path.write_text(f"user_id,item_id,timestamp\n{text}", encoding="utf-8")
    found = inspect(path)
    assert problem in found.problems[0]
    assert found.rows == rows
    assert "peftrec would not read the file as it is" in str(found)
    assert found.call.count("pl.read_csv(") == 1


def test_mixed_encodings_are_read_line_by_line(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_bytes("user_id,item_id,timestamp\nü,a,2020-01-01\n".encode() + "é,a,2020-01-02\n".encode("cp1252"))
    found = inspect(path)
    assert "the file mixes encodings" in found.problems[0]
    dataset = run(found, catalogue={"item_id": ["a"], "title": ["tea"]})
    assert dataset.events.frame["user_id"].to_list() == ["ü", "é"]


def test_only_the_first_rows_of_a_long_file(tmp_path: Path):
    events = pl.DataFrame({"user_id": ["u"] * 50, "item_id": ["a"] * 50, "timestamp": ["2020-01-01"] * 50})
    events.write_csv(tmp_path / "export.csv")
    events.write_parquet(tmp_path / "export.parquet")
    for name in ("export.csv", "export.parquet"):
        found = inspect(tmp_path / name, rows=20)
        assert (found.rows, found.total) == (20, 50)
        assert "the first 20 of 50 rows" in str(found)


def test_columns_that_cannot_stay_are_dropped_by_the_call(tmp_path: Path):
    path = tmp_path / "export.jsonl"
    row = {"user_id": "u", "item_id": "a", "timestamp": "2020-01-01", "price": "ask", "basket": {"n": 1}, "tags": ["x"]}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    found = inspect(path)
    assert {change.column for change in found.changes if not change.code} == {"price", "basket"}
    dataset = run(found, catalogue={"item_id": ["a"], "title": ["tea"]})
    assert dataset.events.frame["tags"].to_list() == ["x"]


def test_a_table_with_hundreds_of_columns_and_long_values(tmp_path: Path):
    path = tmp_path / "export.csv"
    names = ["user_id", "item_id", "timestamp", *(f"a very long name of an attribute 茶 {at}" for at in range(300))]
    path.write_text(f"{','.join(names)}\nu,a,2020-01-01{',🫖x' * 300}\n", encoding="utf-8")
    text = str(inspect(path))
    assert text.count("an attribute") >= 300
    assert max(len(line) for line in text.partition("The call")[0].splitlines()) <= 100


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"\n\n", "nothing but empty lines"),
        ("a.csv", b"user_id,item_id,timestamp\n", "3 columns and no rows"),
        ("a.xlsx", b"PK", "ends in '.xlsx'"),
        ("a.jsonl", b'{"a": 1}\n{"a":\n', "line 2 of"),
        ("a.parquet", b"PAR1" + bytes(40), "looks truncated"),
        ("a.csv.gz", b"\x1f\x8b" + bytes(30), "cannot be read"),
        ("a.csv", b"PK\x03\x04\x14\0\0\0", "like a zip archive"),
        ("a.txt", bytes(100), "100 zero bytes"),
    ],
)
def test_what_cannot_be_looked_at(tmp_path: Path, name: str, data: bytes, says: str):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(SchemaError, match=says):
        inspect(path)
    with pytest.raises(SchemaError, match="a folder"):
        inspect(tmp_path)


def test_two_columns_with_one_name_are_a_problem(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text("user_id,item_id,timestamp,price,price\na,b,2020-01-01,1,2\n", encoding="utf-8")
    found = inspect(path)
    assert "more than one column named 'price'" in found.problems[0]
    assert "events=events," in found.call  # not the path, which peftrec would refuse


def test_a_file_that_a_source_reads_is_told(tmp_path: Path):
    found = inspect(written(tmp_path, "online retail"))
    assert any("load_dataset('online_retail', " in note for note in found.notes)
    path = tmp_path / "interactions.csv"
    path.write_text("USER_ID,ITEM_ID,TIMESTAMP\na,b,1600000000\n", encoding="utf-8")
    assert any(f"load_dataset('personalize', '{tmp_path}')" in note for note in inspect(path).notes)
    path.write_text("user_id,item_id,timestamp\na,b,2020-01-01\n", encoding="utf-8")
    assert not any("load_dataset" in note for note in inspect(path).notes)


def test_a_table_that_is_none_of_ours_is_called_so(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text("alpha,beta\n1.5,2.5\n3.5,4.5\n", encoding="utf-8")
    found = inspect(path)
    assert "looks like no table that peftrec knows" in str(found)
    assert found.call.count("'<your column>'") == len(found.missing) > 0


def test_the_catalogue_is_cleaned_for_the_look(tmp_path: Path):
    path = tmp_path / "export.csv"
    path.write_text("sku,name\n1,Tea <b>pot</b>\n2,CafÃ© au lait\n3,\n", encoding="utf-8")
    found = inspect(path)
    rules = {count.rule: count.rows for count in found.products if count.rows}
    assert rules == {"html": 1, "mojibake": 1, "empty_title": 1}
    assert "such as row 0: title 'Tea <b>pot</b>'" in str(found)


def test_the_command(tmp_path: Path):
    path, runner = written(tmp_path, "german"), CliRunner()
    shown = runner.invoke(app, ["data", "inspect", str(path)])
    assert shown.exit_code == 0
    assert "shop = Dataset.build(" in shown.output
    assert "'timestamp': 'Bestelldatum'" in shown.output
    told = runner.invoke(app, ["data", "inspect", str(path), "--json", "--rows", "2"])
    assert json.loads(told.output) == json.loads(json.dumps(inspect(path, rows=2).to_dict()))
    assert "1.234,50" in runner.invoke(app, ["data", "inspect", "--help"]).output
    missing = runner.invoke(app, ["data", "inspect", str(tmp_path / "none.csv")])
    assert isinstance(missing.exception, SchemaError)


@pytest.mark.data
def test_the_real_invoices(data_folder: Path):
    found = inspect(data_folder / "online_retail/uci_online_retail.parquet", rows=None)
    assert (found.table, found.rows, found.refused) == ("events", 541_909, "")
    assert found.mapping == SHOPS["online retail"][2]
    assert found.cleaning is not None
    dropped = {count.rule: count.rows for count in found.cleaning.counts}
    assert dropped["missing_user"] == 135_080
    assert any("'Description' holds texts of products" in note for note in found.notes)


def test_fields_that_reading_would_cut_are_told(tmp_path: Path):
    path = tmp_path / "orders.csv"
    lines = ["user_id,item_id,timestamp", *(f"u{row},a,2020-01-0{row % 9 + 1}" for row in range(20))]
    lines[4] += ",a gift,wrapped"
    path.write_text("\n".join(lines) + "\n")
    found = inspect(path)
    assert "truncate_ragged_lines=True" in found.call
    told = next(one for one in found.problems if "lose their last fields" in one)
    assert "1 records" in told
    assert "line 5" in told
    assert "'a gift'" in told
