"""Adapters on disk. Starts without torch."""

from peftrec.registry.manifest import Fingerprints, Manifest
from peftrec.registry.store import Publishable, Registry, Version

__all__ = ["Fingerprints", "Manifest", "Publishable", "Registry", "Version"]
