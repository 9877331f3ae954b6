"""Names of adapters and aliases, and references such as ``grocery@3`` and ``grocery@production``."""

import re

from peftrec.errors import AdapterNotFoundError, RegistryError

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9]|[._-](?=[a-z0-9])){0,63}")
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", "latest", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)
LAST_NUMBER = 10**12 - 1
"""Highest number that a version can have."""
_NUMBER = re.compile(r"[1-9][0-9]{0,11}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}")


def is_name(text: str) -> bool:
    """Whether a folder of this name can be an adapter."""
    return _NAME.fullmatch(text) is not None and text.split(".")[0] not in _RESERVED and len(text) <= 64


def is_number(text: str) -> bool:
    """Whether it is a version's number as it is written: ``3``, neither ``03`` nor ``0``."""
    return _NUMBER.fullmatch(text) is not None


def is_alias(text: str) -> bool:
    """Whether it can be an alias: a name that cannot be mistaken for a version."""
    return is_name(text) and not text.isdigit()


def is_digest_reference(text: str) -> bool:
    """Whether it names a version by its content: ``sha256:`` and the first 8 to 64 digits of its manifest's digest."""
    return _DIGEST.fullmatch(text) is not None


def check_name(name: str, *, what: str = "adapter name") -> str:
    """Returns the name.

    Raises:
        RegistryError: It could not be a folder on every system, or could be mistaken for a version.
    """
    if not (is_alias(name) if what == "alias" else is_name(name)):
        raise RegistryError(
            f"{what} {name[:80]!r}",
            expected="1 to 64 of a-z, 0-9 and, singly in between, '.', '_', '-'; no reserved word"
            + (", not a number" if what == "alias" else ""),
            remedy="choose a name such as 'grocery' or 'shop-uk.returning'",
        )
    return name


def parse_reference(reference: str) -> tuple[str, str | None]:
    """Splits ``name``, ``name@version``, ``name@alias`` or ``name@sha256:…``.

    Raises:
        AdapterNotFoundError: The reference has no such form, so nothing can be found by it.
    """
    name, mark, rest = reference.partition("@")
    if not _NAME.fullmatch(name) or (mark and not (_NAME.fullmatch(rest) or is_digest_reference(rest))):
        raise AdapterNotFoundError(
            f"reference {reference[:120]!r}",
            expected="'name', 'name@version', 'name@alias' or 'name@sha256:...'",
            remedy="write it like 'grocery', 'grocery@3' or 'grocery@production'",
        )
    return name, rest or None
