"""What ties events to their catalogue and users: computed once, inherited by parts."""

from dataclasses import dataclass

import polars as pl

from peftrec.data.catalog import Catalog
from peftrec.data.events import Events
from peftrec.data.log import EventLog


@dataclass(frozen=True, eq=False)
class Index:
    """Users and coded events of one pair of catalogue and events.

    Attributes:
        catalog: Whose rows ``log.item`` names.
        events: Whose rows ``log`` codes.
        users: Whose positions ``log.user`` names.
        log: The events as arrays.
    """

    catalog: Catalog
    events: Events
    users: pl.Series
    log: EventLog

    def fits(self, catalog: Catalog, events: Events) -> bool:
        """Whether it was made for these very objects."""
        return self.catalog is catalog and self.events is events
