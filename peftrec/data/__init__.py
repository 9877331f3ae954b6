"""Tables of products, events and shoppers: validated, cleaned, split by time, turned into features. No torch in here."""

from peftrec.data.catalog import Catalog
from peftrec.data.cleaning import CleaningReport
from peftrec.data.dataset import Dataset, EventLog
from peftrec.data.events import Events, Profiles
from peftrec.data.source import DataSource
from peftrec.data.sources import load_dataset

__all__ = ["Catalog", "CleaningReport", "DataSource", "Dataset", "EventLog", "Events", "Profiles", "load_dataset"]
