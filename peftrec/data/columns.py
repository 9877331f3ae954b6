"""Names of the columns that peftrec knows, and what each table must hold."""

USER = "user_id"
ITEM = "item_id"
TIME = "timestamp"
EVENT = "event"
QUANTITY = "quantity"
PRICE = "price"
DISCOUNT = "discount"
DWELL = "dwell_seconds"
SESSION = "session_id"
CHANNEL = "channel"
QUERY = "query"
PLATFORM = "platform"
PAGE = "page"

TITLE = "title"
DESCRIPTION = "description"
BRAND = "brand"
CATEGORY = "category"
TAGS = "tags"
IMAGE = "image"
CANONICAL = "canonical_id"

START = "start"
END = "end"
KIND = "kind"
REACH = "reach"
ANNOUNCED = "announced"
CAMPAIGN = "campaign_id"

EVENT_TYPES = ("view", "click", "favourite", "cart", "purchase")
"""What shoppers do with a product, weakest first."""

STRENGTHS = (0.05, 0.1, 0.3, 0.5, 1.0)
"""How much of a purchase each of them is worth as a sign of interest, where no model has learned it yet."""

PROMOTION_KINDS = ("feature", "headline", "display")

CATALOG_REQUIRED = (ITEM, TITLE)
CATALOG_OPTIONAL = (DESCRIPTION, BRAND, CATEGORY, TAGS, PRICE, IMAGE)
EVENTS_REQUIRED = (USER, ITEM, TIME)
EVENTS_OPTIONAL = (EVENT, QUANTITY, PRICE, DISCOUNT, DWELL, SESSION, CHANNEL, PAGE, QUERY, PLATFORM)
PROFILES_REQUIRED = (USER,)
PROMOTIONS_REQUIRED = (ITEM, START, END)
PROMOTIONS_OPTIONAL = (KIND, REACH, ANNOUNCED)
COUPON_PRODUCTS_REQUIRED = (CAMPAIGN, ITEM)
COUPON_RECIPIENTS_REQUIRED = (CAMPAIGN, USER, START, END)

# What shops call these columns; consulted only to propose a mapping in an error message, never to rename by guess.
ALIASES: dict[str, tuple[str, ...]] = {
    USER: ("household_id", "customer_id", "customerid", "visitor_id", "visitorid", "member_id", "shopper_id", "user"),
    ITEM: ("product_id", "article_id", "sku", "asin", "stock_code", "stockcode", "parent_asin", "goods_id", "item"),
    TIME: ("transaction_timestamp", "time", "datetime", "date", "t_dat", "created_at", "event_time", "invoice_date"),
    TITLE: ("name", "product_name", "prod_name", "item_name", "product_title", "product_type"),
    EVENT: ("event_type", "action", "behavior", "behaviour"),
    START: ("start_date", "begin", "valid_from", "from"),
    END: ("end_date", "until", "valid_to", "to"),
    KIND: ("promotion_type", "promo_type", "type"),
}
