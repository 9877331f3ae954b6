"""Which table a file is, and which of its columns is which of ours: from names and from values, with the reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from peftrec.data import columns as col
from peftrec.data.events import POSITION
from peftrec.data.inspection.facts import MOMENT, NESTED, NUMBER, TEXT, YES_NO, Facts
from peftrec.data.reading.names import EXACT, POSITIONS, folded, likeness

EVENTS, CATALOGUE, PROFILES, PROMOTIONS = "events", "catalogue", "profiles", "promotions"
"""The tables, as messages call them."""

REQUIRED: dict[str, tuple[str, ...]] = {
    EVENTS: col.EVENTS_REQUIRED,
    CATALOGUE: col.CATALOG_REQUIRED,
    PROFILES: col.PROFILES_REQUIRED,
    PROMOTIONS: col.PROMOTIONS_REQUIRED,
}
OPTIONAL: dict[str, tuple[str, ...]] = {
    EVENTS: col.EVENTS_OPTIONAL,
    CATALOGUE: col.CATALOG_OPTIONAL,
    PROFILES: (),
    PROMOTIONS: col.PROMOTIONS_OPTIONAL,
}

FILES: dict[str, tuple[str, ...]] = {
    EVENTS: ("events", "interactions", "transactions", "orders", "purchases", "sales", "clicks", "log", "baskets"),
    CATALOGUE: ("catalog", "catalogue", "items", "products", "articles", "item", "product"),
    PROFILES: ("profiles", "users", "customers", "households", "members", "shoppers", "demographics"),
    PROMOTIONS: ("promotions", "campaigns", "offers", "promos"),
}
"""Table -> words in the names of its files."""

LEAST = 0.3
"""How sure a guess must be to be made."""

_TIMES = (col.TIME, col.START, col.END, col.ANNOUNCED)
_NUMBERS = (col.QUANTITY, col.PRICE, col.DISCOUNT, col.DWELL, col.PAGE, col.REACH)
_IDS = (col.USER, col.ITEM, col.SESSION)


@dataclass(frozen=True)
class Match:
    """A column of ours and one of theirs.

    Attributes:
        ours: Our name.
        theirs: Name in the file.
        score: How well they fit, about 0..1.
        why: In words.
    """

    ours: str
    theirs: str
    score: float
    why: str


@dataclass(frozen=True)
class Guess:
    """What a file seems to be.

    Attributes:
        table: Which table.
        why: What speaks for it.
        matches: Our name -> the column found.
        missing: Required names for which no column was found.
        score: How sure.
    """

    table: str
    why: str
    matches: Mapping[str, Match] = field(default_factory=dict[str, Match])
    missing: tuple[str, ...] = ()
    score: float = 0.0

    @property
    def mapping(self) -> dict[str, str]:
        """Our name -> their name, where they differ."""
        return {ours: match.theirs for ours, match in self.matches.items() if ours != match.theirs}


def guess_table(facts: Sequence[Facts], *, stem: str = "", items: Callable[[Facts], float] | None = None) -> Guess:
    """The table that a file most likely is.

    Args:
        facts: About its columns.
        stem: Name of the file without its ending.
        items: Share of a column's values that are ids of a known catalogue.
    """
    guesses = [guess_columns(facts, table, items=items) for table in REQUIRED]
    return max((_judged(guess, facts, stem) for guess in guesses), key=lambda guess: guess.score)


def guess_columns(facts: Sequence[Facts], table: str, *, items: Callable[[Facts], float] | None = None) -> Guess:
    """Which column is which, if a file is that table; see :func:`guess_table`."""
    wanted = (*REQUIRED[table], *OPTIONAL[table])
    pairs = [_pair(ours, one, table, items) for ours in wanted for one in facts]
    matches = dict[str, Match]()
    for pair in sorted(pairs, key=lambda pair: -pair.score):
        taken = {match.theirs for match in matches.values()}
        if pair.score >= LEAST and pair.ours not in matches and pair.theirs not in taken:
            matches[pair.ours] = pair
    _fill(matches, pairs, table)
    if table == EVENTS and col.TIME not in matches:
        _fill_position(matches, facts)
    required = tuple(POSITION if ours == col.TIME and POSITION in matches else ours for ours in REQUIRED[table])
    wanted = (*required, *OPTIONAL[table])
    found = {ours: matches[ours] for ours in wanted if ours in matches}
    return Guess(table, "", found, tuple(ours for ours in required if ours not in found))


def _fill(matches: dict[str, Match], pairs: Sequence[Match], table: str) -> None:
    """A required column takes one that was given to an optional column, if it fits at all."""
    for ours in REQUIRED[table]:
        if ours in matches:
            continue
        taken = {match.theirs: name for name, match in matches.items()}
        able = [pair for pair in pairs if pair.ours == ours and pair.score >= LEAST]
        able = [pair for pair in able if taken.get(pair.theirs) not in REQUIRED[table]]
        if ours == col.USER and not able and col.SESSION in matches:
            visit = matches.pop(col.SESSION)
            why = "no column tells shoppers, so a visit stands for one"
            matches[ours] = Match(ours, visit.theirs, LEAST, why)
        elif able:
            best = max(able, key=lambda pair: pair.score)
            matches.pop(taken.get(best.theirs, ""), None)
            matches[ours] = best


def _fill_position(matches: dict[str, Match], facts: Sequence[Facts]) -> None:
    """Where nothing tells when events were, the order of a shopper's events is enough."""
    for one in facts:
        if folded(one.name) in POSITIONS and one.numbers >= 0.9:
            for ours in [ours for ours, match in matches.items() if match.theirs == one.name]:
                del matches[ours]
            matches[POSITION] = Match(POSITION, one.name, EXACT, "no column has moments, and this one has an order")
            return


def _pair(ours: str, facts: Facts, table: str, items: Callable[[Facts], float] | None) -> Match:
    name, why = likeness(facts.name, ours)
    value, told = _by_values(ours, facts, table)
    if ours == col.ITEM and items is not None and facts.kind in (TEXT, "whole") and items(facts) >= 0.5:
        value, told = max(value, 0.6), f"{items(facts):.0%} of its values are ids of the catalogue"
    fits = _fit(ours, facts)
    reasons = "; ".join(filter(None, (why, told)))
    return Match(ours, facts.name, max(name, value) * fits if name < 1 or fits < 0.5 else 1.0, reasons)


def _by_values(ours: str, facts: Facts, table: str) -> tuple[float, str]:
    """How well values alone fit, and what they show."""
    told = f"{facts.moments:.0%} of its values are moments ({facts.form})" if facts.moments else ""
    if ours == col.TIME and facts.moments >= 0.9:
        return 0.35, told
    if ours in _TIMES:
        return 0.0, told
    if ours == col.EVENT and facts.events >= 0.9:
        return 0.45, "its values are types of events"
    if ours == col.IMAGE and facts.images >= 0.9:
        return 0.45, "its values name pictures"
    if ours == col.PRICE and facts.money >= 0.9:
        return 0.4, "its values name a currency"
    texts = facts.kind == TEXT and facts.words >= 0.5 and facts.links < 0.5 and facts.moments < 0.5
    if table == CATALOGUE and ours == col.TITLE and texts and 6 <= facts.length <= 150 and facts.unique >= 0.5:
        return LEAST, f"its values are texts of {facts.length:.0f} letters that differ"
    if table == CATALOGUE and ours == col.DESCRIPTION and texts and facts.length > 150:
        return LEAST, "its values are long texts"
    return 0.0, ""


def _fit(ours: str, facts: Facts) -> float:
    """What the values of a column allow: 0 for none of ours of that name, 1 for what is usual."""
    if facts.kind == NESTED or not facts.known:
        return 0.0
    if ours in _TIMES:
        return 1.0 if facts.moments >= 0.5 else 0.0
    if ours in _NUMBERS:
        number = facts.kind == NUMBER or (
            max(facts.numbers, facts.amounts) >= 0.9 and facts.kind not in (MOMENT, YES_NO)
        )
        return float(number and facts.moments < 0.5 and _in_range(ours, facts))
    if ours in _IDS:
        return _id_fit(ours, facts)
    if ours == col.EVENT:
        return (
            1.0 if facts.events >= 0.5 else 0.8 if (facts.distinct or 0) <= 50 and facts.kind in (TEXT, "whole") else 0
        )
    return _text_fit(ours, facts)


def _in_range(ours: str, facts: Facts) -> bool:
    high = facts.high if facts.high is not None else 0.0
    return not (ours == col.REACH and high > 1) and not (ours == col.PAGE and not facts.whole)


def _id_fit(ours: str, facts: Facts) -> float:
    fractions = facts.kind == NUMBER and not facts.whole
    if fractions or facts.kind in (MOMENT, YES_NO) or facts.length > 100 or facts.moments >= 0.9:
        return 0.0
    wordy = facts.words >= 0.5 and facts.kind == TEXT
    return 0.5 if wordy or ((facts.distinct or 0) < 2 and facts.known > 10) else 1.0


def _text_fit(ours: str, facts: Facts) -> float:
    if ours in (col.TITLE, col.DESCRIPTION):
        return 1.0 if facts.kind == TEXT and facts.numbers < 0.9 and facts.moments < 0.9 else 0.0
    if ours == col.IMAGE:
        return 1.0 if facts.kind == TEXT and max(facts.links, facts.images) >= 0.5 else 0.6 * (facts.kind == TEXT)
    few = (facts.distinct or 0) <= max(1_000, 0.5 * facts.known)
    if ours in (col.CATEGORY, col.CHANNEL, col.PLATFORM, col.KIND, col.BRAND):
        return float(few and facts.kind != MOMENT and facts.moments < 0.9)
    return float(facts.kind == TEXT)


def _judged(guess: Guess, facts: Sequence[Facts], stem: str) -> Guess:
    required = [POSITION if POSITION in guess.matches and ours == col.TIME else ours for ours in REQUIRED[guess.table]]
    found = [guess.matches[ours].score for ours in required if ours in guess.matches]
    score = sum(found) / len(required) + 0.03 * (len(guess.matches) - len(found))
    reasons = [f"it has {', '.join(ours for ours in required if ours in guess.matches)}"] if found else []
    signs = [(points, why) for points, why in _signs(guess, {one.name: one for one in facts}) if points]
    if any(folded(word) in folded(stem) for word in FILES[guess.table]):
        signs.append((0.3, f"the file is called '{stem}'"))
    reasons += [why for points, why in signs if points > 0]
    score += sum(points for points, _ in signs)
    return Guess(guess.table, "; ".join(reasons), guess.matches, guess.missing, score)


def _signs(guess: Guess, facts: Mapping[str, Facts]) -> list[tuple[float, str]]:
    """What speaks for a table, and against it where the points are below 0."""
    seen = {ours: facts[match.theirs] for ours, match in guess.matches.items()}
    names = {
        ours: max((likeness(name, ours)[0] for name in facts), default=0.0) for ours in (col.USER, col.ITEM, col.START)
    }
    named = {ours for ours, score in names.items() if score >= EXACT}
    times = max((one.moments for one in facts.values()), default=0.0) >= 0.9
    item, user = seen.get(col.ITEM), seen.get(col.USER)
    if guess.table == EVENTS:
        repeated = item is not None and item.unique < 0.9
        return [(0.2 * repeated, "products repeat"), (0.1 * times, "it has moments"), (-0.4 * (not times), "")]
    if guess.table == CATALOGUE:
        once = item is not None and item.unique > 0.95
        shoppers = col.USER in named
        untitled = col.TITLE not in guess.matches
        against = -0.6 * (not once) - 0.4 * shoppers - 0.3 * untitled
        return [(0.4 * once, "each product has one row"), (against, "")]
    if guess.table == PROFILES:
        once = user is not None and user.unique > 0.95
        return [(0.3 * once, "each shopper has one row"), (-0.6 * (not once), ""), (-0.8 * (col.ITEM in named), "")]
    return [(0.4 * (not guess.missing), "it has a start and an end"), (-0.6 * bool(guess.missing), "")]
