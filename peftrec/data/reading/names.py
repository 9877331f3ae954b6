"""What shops call their columns, in several languages and on several platforms; only ever used to propose a mapping."""

import re
import unicodedata
from difflib import get_close_matches
from functools import cache, lru_cache

from peftrec.data import columns as col

_MORE = {
    col.USER: """user userid customer customer_id customerid cust_id cust_code custno client client_id clientid account_id
        buyer_id shopper member visitor visitor_id household_key hh_id hshd_num reviewerid user_pseudo_id fullvisitorid
        anonymous_id distinct_id customer_unique_id customer_number customer_no customer_email email loyalty_id card_id
        card_no id_customer id_client code_client cliente id_cliente codigo_cliente kunde kunden_id kunden_nr kundennummer
        kundennr klant klant_id klantnummer klient id_klienta numero_client uid 用户id 用户 会员id 会员号 顧客id 会員番号
        клиент id_клиента""",
    col.ITEM: """item itemid product productid article articleid sku skuid sku_id stockcode movie_id track_id book_id upc ean
        gtin barcode product_code prod_code prod_id product_sku product_number item_number item_code itemno articleno
        lineitem_sku variant_sku product_sku_hash aid id_product product_ref reference produit id_produit code_article
        producto id_producto articulo codigo_articulo codigo_producto prodotto articolo codice_articolo produto id_produto
        artikel artikel_id artikelnr artikel_nr artikelnummer productnummer produkt produktnummer id_produktu handle
        variation_id parent_id id 商品id 商品编号 商品コード 商品番号 товар id_товара артикул""",
    col.TIME: """timestamp ts unix_time unixtime unixreviewtime epoch datum date_time datetime event_timestamp eventtime
        event_date eventdate server_timestamp_epoch_ms sale_date sales_date order_date orderdate order_time ordered_at
        order_purchase_timestamp purchase_date purchased_at purchase_time purchase_timestamp transaction_date trans_date
        transaction_time invoice_date invoicedate created_at createdon created date_created date_add processed_at paid_at
        shop_date visit_date view_time click_time action_time time_stamp log_time logged_at occurred_at day zeit zeitpunkt
        zeitstempel bestelldatum kaufdatum rechnungsdatum belegdatum date_commande date_achat horodatage fecha fecha_compra
        fecha_pedido fecha_hora data data_ordine data_acquisto data_compra data_pedido besteldatum orderdatum tijdstip
        data_zamowienia 时间 时间戳 日期 购买时间 下单时间 日時 購入日 注文日 дата время дата_покупки""",
    col.EVENT: """event eventtype event_name eventname behavior_type behaviour_type action_type actiontype interaction
        interaction_type product_action activity 行为 行为类型 событие ereignis aktion evento accion""",
    col.QUANTITY: """quantity qty amount_of_items units count product_qty qty_ordered quantity_ordered item_quantity
        product_quantity order_qty num_items pieces lineitem_quantity menge anzahl stueck stuckzahl stueckzahl quantite qte
        nombre cantidad cant unidades quantita qta quantidade qtd aantal hoeveelheid ilosc 数量 購入数 количество кол_во""",
    col.PRICE: """price unit_price unitprice item_price product_price list_price sale_price regular_price base_price
        price_usd price_eur selling_price sales_price variant_price lineitem_price product_net_revenue preis einzelpreis
        stueckpreis stuckpreis verkaufspreis prix prix_unitaire prix_vente precio precio_unitario prezzo prezzo_unitario
        preco preco_unitario prijs stukprijs cena 价格 单价 価格 単価 цена""",
    col.DISCOUNT: """discount discount_rate discount_percent discount_pct disc rebate markdown rabatt nachlass remise
        reduction descuento sconto desconto korting rabat 折扣 割引 скидка""",
    col.DWELL: """dwell_seconds dwell dwell_time dwelltime duration time_spent time_on_page seconds_spent engagement_time
        engagement_time_msec view_duration watch_time timeframe verweildauer duree duracion durata""",
    col.SESSION: """session_id session sessionid visit_id visitid visit basket_id basket basketid order_id orderid order
        order_number invoice_no invoiceno invoice invoice_id transaction_id transactionid trans_id ga_session_id
        user_session session_id_hash receipt_id receipt ticket ticket_id bon bestellung bestellnummer bestell_nr
        auftragsnummer rechnungsnummer belegnummer commande id_commande numero_commande pedido id_pedido numero_pedido
        ordine numero_ordine bestelnummer ordernummer 会话id 订单id 订单号 注文番号 номер_заказа""",
    col.CHANNEL: """channel sales_channel sales_channel_id source traffic_source utm_source medium store store_id storeid
        store_code shop_id device_type referrer kanal vertriebskanal filiale canal tienda negozio magasin winkel 渠道
        канал""",
    col.QUERY: """query search_query search_term searchterm search_terms search_keyword keyword keywords q
        suchbegriff suche recherche busqueda ricerca zoekterm 搜索词 搜索 検索語 запрос""",
    col.PLATFORM: "platform site marketplace domain app website plattform plateforme plataforma piattaforma 平台",
    col.PAGE: "page page_number page_no position_in_visit step hit_number hitnumber event_sequence seite",
    col.TITLE: """title name product_title prod_name item_title itemname productname articlename product_desc item_desc
        short_description display_name label lineitem_name product_label commodity_desc sub_commodity_desc movie_title
        book_title bezeichnung artikelbezeichnung artikelname produktname produktbezeichnung titel nom nom_produit
        designation libelle intitule titre nombre nombre_producto nombre_articulo titulo nome nome_prodotto nome_produto
        titolo naam artikelnaam productnaam omschrijving nazwa nazwa_produktu product_category_name description 名称
        商品名称 商品名 标题 название наименование""",
    col.DESCRIPTION: """description desc long_description product_description body_html body full_description detail_desc
        details detail item_description about features beschreibung langtext artikelbeschreibung produktbeschreibung
        descriptif description_longue descripcion descrizione descricao beschrijving opis 描述 商品描述 説明 описание""",
    col.BRAND: """brand brand_name brandname product_brand item_brand manufacturer vendor maker producer label_brand store
        marke hersteller marque fabricant marca fabricante produttore merk fabrikant marka producent 品牌 ブランド
        бренд производитель""",
    col.CATEGORY: """category categories category_name category_code category_id categoryid product_category item_category
        department department_id aisle product_type producttype product_type_name product_group product_group_name genre
        genres class group main_category kategorie warengruppe produktgruppe categorie rayon famille categoria familia
        reparto categoria_produto categorie_naam kategoria 类别 类目 分类 カテゴリ категория""",
    col.TAGS: "tags tag labels keywords attributes schlagworte stichworte etiquettes etiquetas",
    col.IMAGE: """image image_url imageurl image_src img img_url picture photo thumbnail image_link main_image imurl images
        bild bild_url foto imagen immagine imagem afbeelding obrazek 图片 画像 изображение""",
    col.START: """start start_time start_at startdate start_date begin_date date_start date_from valid_from validfrom from_date
        promo_start beginn von gueltig_ab debut date_debut inicio fecha_inicio inizio data_inizio begindatum 开始时间
        开始日期 начало""",
    col.END: """end end_time end_at enddate date_end date_to valid_to validto valid_until to_date promo_end expires_at
        expiry_date ende bis gueltig_bis fin date_fin fecha_fin fine data_fine einddatum 结束时间 结束日期 конец""",
    col.KIND: "kind promotion_type promo_type type display_type media mechanic art typ tipo",
    col.REACH: "reach coverage share_of_stores share reichweite portee alcance",
    col.ANNOUNCED: "announced announced_at announcement_date decided_at published_at created_at planned_at",
}

NAMES: dict[str, tuple[str, ...]] = {
    ours: tuple(dict.fromkeys((ours, *col.ALIASES.get(ours, ()), *more.split()))) for ours, more in _MORE.items()
}
"""Our column -> names for it, its own first and common ones before rare ones; compared as :func:`folded` writes them."""

_ID = ("id", "ids", "code", "no", "nr", "num", "number", "key", "hash")
_WHEN = ("at", "on", "time", "date", "utc", "ms", "ts")
_ENDINGS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((col.USER, col.ITEM, col.SESSION), _ID),
    **dict.fromkeys((col.TIME, col.START, col.END), _WHEN),
}

POSITIONS = ("position", "ordernumber", "sequence", "sequencenumber", "seq", "rank", "ordinal", "turn")
"""Folded names of what only orders a shopper's events."""

EXACT, INSIDE, ALIKE = 0.7, 0.5, 0.4
"""How sure a name makes: it is at least the first where it is in ``NAMES``, less where it contains or resembles one."""


def folded(name: str) -> str:
    """Small letters and digits only, without accents: "Customer ID", "customerId" and "CUSTOMER_ID" are one name.

    >>> folded("Prénom du Client")
    'prenomduclient'
    """
    letters = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]+", "", "".join(letter for letter in letters if not unicodedata.combining(letter)))


@lru_cache(maxsize=10_000)
def likeness(name: str, ours: str) -> tuple[float, str]:
    """How well a name fits to one of our columns, 0..1, and why.

    A name with parts, such as "items.item_id" of a flattened export, is taken for its last part as well.
    """
    if name == ours:
        return 1.0, "it has our name"
    known = _folded_names(ours)
    whole, last = folded(name), folded(re.split(r"[./:\[]", name)[-1])
    for form, worth in ((whole, 1.0), (last, 0.95)):
        if form in known:
            return worth * (EXACT + 0.29 * (1 - known[form] / len(known))), f"a common name for {ours}"
    for other in known:
        begins = whole.startswith(other) and whole[len(other) :] in _ENDINGS.get(ours, ())
        if len(other) >= 5 and other.isascii() and (whole.endswith(other) or begins):
            return INSIDE, f"its name contains '{other}', a common name for {ours}"
    close = get_close_matches(whole, [other for other in known if len(other) >= 5], n=1, cutoff=0.85)
    return (ALIKE, f"its name resembles one for {ours}") if close and len(whole) >= 5 else (0.0, "")


@cache
def _folded_names(ours: str) -> dict[str, int]:
    names = dict.fromkeys(map(folded, NAMES.get(ours, (ours,))))
    return {name: place for place, name in enumerate(names)}
