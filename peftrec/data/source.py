"""Where a data set comes from, and under which terms."""

from dataclasses import dataclass

OF_ALL_EVENTS = "those after a cut included"
AS_OF_EXPORT = "as on the day of the export"
HINDSIGHT = (OF_ALL_EVENTS, AS_OF_EXPORT)
"""Words by which a note says that a catalogue holds what was known only after a cut; ``audit`` looks for them."""


@dataclass(frozen=True)
class DataSource:
    """Origin of a data set; it travels into manifests and adapter cards.

    Args:
        name: What people call the data.
        licence: Terms as the source states them.
        url: Where it is published.
        note: What a reader of results must know about it, such as "simulated".
        clock: IANA name of the time zone that shoppers live in, for what scenes say of day and hour.
        country: ISO 3166 code of where they live, such as "US", for seasons and public holidays; empty where there is no
            one country.
    """

    name: str
    licence: str
    url: str
    note: str = ""
    clock: str = "UTC"
    country: str = ""

    @property
    def hindsight(self) -> str:
        """What the note says of a catalogue that knows what came after a cut; empty if nothing."""
        return "; ".join(clause for clause in self.note.split("; ") if any(words in clause for words in HINDSIGHT))
