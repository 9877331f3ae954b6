"""``peftrec registry``: look at published adapters, move aliases, share versions. Starts without torch."""

from peftrec.cli.registry import changing, looking, sharing
from peftrec.cli.registry.options import app

__all__ = ["app", "changing", "looking", "sharing"]
