"""Which version a shopper gets where an alias leads to several."""

import hashlib
import math
from collections.abc import Mapping


def choose(weights: Mapping[str, float], user: str | None, *, salt: str) -> str:
    """The same version for the same shopper, however often it is asked and on whatever machine.

    Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights after Schindelhauer and Schomaker, 2005): each
    version draws ``-ln(h) / weight`` with ``h`` a hash of shopper and version in (0, 1), and the lowest wins. A weight
    that is raised takes shoppers from the others and moves none between them.

    Args:
        weights: Version -> its share, all above 0; they need not sum to 1.
        user: The shopper's id. Without one, the version of the largest share, the oldest of equals.
        salt: What keeps the draws of two experiments independent, such as the adapter's name and alias.
    """
    if len(weights) == 1:
        return next(iter(weights))
    if user is None:
        return min(weights, key=lambda version: (-weights[version], int(version)))
    return min(weights, key=lambda version: (-math.log(_uniform(salt, version, user)) / weights[version], int(version)))


def _uniform(*parts: str) -> float:
    """A number in (0, 1), always the same for the same texts."""
    digest = hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8]) + 0.5) / 2**64
