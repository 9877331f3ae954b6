"""Polars expressions that can be shown: the text that a reader can paste, and the expression that it stands for."""

from dataclasses import dataclass
from operator import attrgetter
from typing import cast

import polars as pl


@dataclass(frozen=True, eq=False)
class Code:
    """An expression and its text; both are made by the same call, so that they cannot differ.

    >>> column("ts").call("cast", pl.Int64).text
    "pl.col('ts').cast(pl.Int64)"

    Attributes:
        text: Python, with ``import polars as pl``.
        expr: What it evaluates to.
    """

    text: str
    expr: pl.Expr

    def call(self, method: str, *args: object, **options: object) -> "Code":
        """Calls a method of the expression, such as "cast" or "str.to_datetime"."""
        return Code(
            f"{self.text}.{method}({_arguments(args, options)})",
            cast(pl.Expr, attrgetter(method)(self.expr)(*_values(args), **_named(options))),
        )


def column(name: str) -> Code:
    """A column of a frame."""
    return Code(f"pl.col({name!r})", pl.col(name))


def function(name: str, *args: object, **options: object) -> Code:
    """Calls a function of polars, such as "coalesce" or "from_epoch"."""
    made = cast(pl.Expr, attrgetter(name)(pl)(*_values(args), **_named(options)))
    return Code(f"pl.{name}({_arguments(args, options)})", made)


def where(condition: Code, value: Code) -> Code:
    """The value where the condition holds, nothing elsewhere."""
    return Code(f"pl.when({condition.text}).then({value.text})", pl.when(condition.expr).then(value.expr))


def _arguments(args: tuple[object, ...], options: dict[str, object]) -> str:
    return ", ".join([*map(_shown, args), *(f"{name}={_shown(value)}" for name, value in options.items())])


def _shown(value: object) -> str:
    if isinstance(value, Code):
        return value.text
    return f"pl.{value}" if isinstance(value, (pl.DataType, type(pl.String))) else repr(value)


def _values(args: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(value.expr if isinstance(value, Code) else value for value in args)


def _named(options: dict[str, object]) -> dict[str, object]:
    return {name: value.expr if isinstance(value, Code) else value for name, value in options.items()}
