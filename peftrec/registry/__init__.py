"""Adapters on disk. Starts without torch."""

from peftrec.registry.manifest import Fingerprints, Manifest
from peftrec.registry.publishing import Publishable
from peftrec.registry.store import Registry
from peftrec.registry.version import Version

__all__ = ["Fingerprints", "Manifest", "Publishable", "Registry", "Version"]
