"""Every error peftrec raises on purpose.

All of them derive from :class:`PeftrecError` and carry three facts, printed on three lines: what was found, what was
expected, and what to do next::

    PeftrecError
    ├── MissingExtraError            an optional package is not installed
    ├── DataError
    │   ├── SchemaError              a missing, duplicate or wrongly typed column; an unreadable file
    │   ├── InvalidValueError        a value outside its range: negative price, NaN, time in the future
    │   ├── UnknownItemError         an item id that the catalogue does not hold
    │   ├── UnknownUserError         a user id that the data does not hold
    │   ├── NotEnoughDataError       too few rows, shoppers or purchases for what was asked
    │   ├── LeakageError             a past that knows something of the future it is to predict
    │   └── DataWriteError           the folder is read-only or full
    ├── BackboneError
    │   ├── BackboneNotFoundError    no such name, folder or hub id, or the files are incomplete
    │   ├── UnsupportedBackboneError an architecture or depth that peftrec cannot split
    │   └── BackboneWriteError       the folder is read-only or full, or holds something else
    ├── ItemTableError               the folder of encoded products is damaged or cannot be written
    ├── ConfigError                  a configuration value that cannot work
    ├── TrainingError                training cannot start or go on: one class only, NaN loss
    ├── RegistryError
    │   ├── AdapterNotFoundError     no such adapter, version or alias
    │   ├── CorruptAdapterError      a file is missing, changed, truncated or malformed
    │   ├── IncompatibleAdapterError an intact adapter that was made for something else
    │   ├── GateRefusedError         a version that does not show what a promotion asks for
    │   ├── PinnedAliasError         an alias that must not move
    │   ├── UntrustedAdapterError    a version without the signature of a trusted key
    │   └── RegistryWriteError       the folder is read-only or full
    └── RequestError                 a request the engine cannot answer: k = 0, no such platform
        └── OverloadedError          too many requests wait, or one waited for too long
"""


class PeftrecError(Exception):
    """Base of all errors raised on purpose.

    Args:
        found: What was met: names the file, column, row or value.
        expected: What would have been right.
        remedy: What the reader can do next.
    """

    def __init__(self, found: str, *, expected: str, remedy: str) -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(found, expected, remedy)

    def __str__(self) -> str:
        return f"{self.found}\n  expected: {self.expected}\n  to mend:  {self.remedy}"

    def __reduce__(self) -> tuple[object, tuple[type, str, str, str]]:
        # Keyword-only arguments do not survive the default pickling, which multiprocessing relies on.
        return _rebuild, (type(self), self.found, self.expected, self.remedy)


def _rebuild(kind: type[PeftrecError], found: str, expected: str, remedy: str) -> PeftrecError:
    return kind(found, expected=expected, remedy=remedy)


class MissingExtraError(PeftrecError, ImportError):
    """An optional package is not installed."""


class DataError(PeftrecError):
    """Tables that cannot be used."""


class SchemaError(DataError):
    """A missing, duplicate or wrongly typed column, or an unreadable file."""


class InvalidValueError(DataError, ValueError):
    """A value outside its range."""


class UnknownItemError(DataError, KeyError):
    """An item id that the catalogue does not hold."""

    __str__ = PeftrecError.__str__  # KeyError would print the repr of its arguments


class UnknownUserError(DataError, KeyError):
    """A user id that the data does not hold."""

    __str__ = PeftrecError.__str__


class NotEnoughDataError(DataError):
    """Too few rows, shoppers or purchases for what was asked."""


class LeakageError(DataError):
    """A past that knows something of the future that it is to predict."""


class DataWriteError(DataError):
    """The folder is read-only or full."""


class BackboneError(PeftrecError):
    """A BERT that cannot be loaded or split."""


class BackboneNotFoundError(BackboneError, FileNotFoundError):
    """No such name, folder or hub id, or its files are incomplete."""

    __str__ = PeftrecError.__str__  # OSError formats its arguments as an errno


class UnsupportedBackboneError(BackboneError):
    """An architecture or depth that peftrec cannot split."""


class BackboneWriteError(BackboneError):
    """The folder is read-only or full, or holds something else."""


class ItemTableError(PeftrecError):
    """The folder of encoded products is damaged or cannot be written."""


class ConfigError(PeftrecError, ValueError):
    """A configuration value that cannot work."""


class TrainingError(PeftrecError):
    """Training cannot start or cannot go on."""


class RegistryError(PeftrecError):
    """The registry cannot do what was asked."""


class AdapterNotFoundError(RegistryError, KeyError):
    """No such adapter, version or alias."""

    __str__ = PeftrecError.__str__


class CorruptAdapterError(RegistryError):
    """A file is missing, changed, truncated or malformed."""


class IncompatibleAdapterError(RegistryError):
    """An intact adapter that was made for another backbone, tokenizer, template or shape."""


class GateRefusedError(RegistryError):
    """A version that does not show what a promotion asks for."""


class PinnedAliasError(RegistryError):
    """An alias that must not move until it is unpinned."""


class UntrustedAdapterError(RegistryError):
    """A version without the signature of a trusted key."""


class RegistryWriteError(RegistryError):
    """The registry's folder is read-only or full."""


class RequestError(PeftrecError, ValueError):
    """A request that the engine cannot answer."""


class OverloadedError(RequestError):
    """Too many requests wait, or one waited for too long."""
