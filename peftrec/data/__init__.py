"""Shops' data: catalogue, events, profiles and promotions, validated, cross-checked and cut by time or segment."""

from peftrec.data.audit import AuditCheck, AuditReport, audit, audit_tables
from peftrec.data.catalog import Catalog
from peftrec.data.cleaning.report import CleaningReport, RuleCount
from peftrec.data.cleaning.rules import CleaningRules
from peftrec.data.coupons import Coupons
from peftrec.data.dataset import Dataset
from peftrec.data.events import Events
from peftrec.data.log import EventLog
from peftrec.data.profiles import Profiles
from peftrec.data.promotions import Promotions
from peftrec.data.reading.tables import Table
from peftrec.data.simulate import Browsing, simulate_browsing
from peftrec.data.source import DataSource
from peftrec.data.sources import load_dataset, register_dataset, write_recbole
from peftrec.data.streaming.sharded import ShardedDataset
from peftrec.data.streaming.stream import stream_events

__all__ = [
    "AuditCheck",
    "AuditReport",
    "Browsing",
    "Catalog",
    "CleaningReport",
    "CleaningRules",
    "Coupons",
    "DataSource",
    "Dataset",
    "EventLog",
    "Events",
    "Profiles",
    "Promotions",
    "RuleCount",
    "ShardedDataset",
    "Table",
    "audit",
    "audit_tables",
    "load_dataset",
    "register_dataset",
    "simulate_browsing",
    "stream_events",
    "write_recbole",
]
