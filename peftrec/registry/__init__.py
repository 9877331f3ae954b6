"""Adapters on disk. Starts without torch."""

from peftrec.registry.gate import Gate
from peftrec.registry.manifest import Fingerprints, Manifest
from peftrec.registry.publishing import Publishable
from peftrec.registry.reading import RegistryReader
from peftrec.registry.store import Registry
from peftrec.registry.version import Version

__all__ = ["Fingerprints", "Gate", "Manifest", "Publishable", "Registry", "RegistryReader", "Version"]
