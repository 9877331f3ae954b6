"""Where a data set comes from, and under which terms."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSource:
    """Origin of a data set; it travels into manifests and adapter cards.

    Args:
        name: What people call the data.
        licence: Terms as the source states them.
        url: Where it is published.
        note: What a reader of results must know about it, such as "simulated".
    """

    name: str
    licence: str
    url: str
    note: str = ""
