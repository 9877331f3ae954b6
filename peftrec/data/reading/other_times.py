"""Timestamps that people can read and a rule would drop: refused with the expression that converts them."""

import polars as pl

from peftrec.data.reading.time_formats import ISO, UNKNOWN, moments, written_moments
from peftrec.errors import SchemaError

TOLERATED = 0.01
"""Share of timestamps in another form than ISO 8601 that are left to the rule ``unparsable_timestamp``."""


def refuse_other_times(values: pl.Series, *, name: str) -> None:
    """Raises if many timestamps can be read, but only by another form than the rules ask for.

    Args:
        values: Timestamps as they came; only texts are looked at.
        name: Of the column, for messages.

    Raises:
        SchemaError: Names each form with its rows, and the expression that makes moments of all of them.
    """
    if values.dtype != pl.String:
        return
    written = written_moments(values)
    readable = [one for one in written if one.form not in (ISO, UNKNOWN)]
    if sum(one.rows for one in readable) <= TOLERATED * sum(one.rows for one in written):
        return
    told = "; ".join(
        f"{one.rows:,} rows {one.form}, the first is row {one.first} (counting from 0): {one.example!r:.40}"
        for one in [*readable, *(one for one in written if one not in readable)]
    )
    doubts = [one.doubt for one in readable if one.doubt]
    raise SchemaError(
        f"column '{name}' of the events is written in {len(written)} {'form' if len(written) == 1 else 'forms'}: {told}",
        expected=f"ISO 8601, such as 2017-12-02T05:00:00Z, in all but {TOLERATED:.0%} of the rows",
        remedy=f"convert the column and pass the frame: frame.with_columns({moments(name, written).text})"
        + (f"; but {doubts[0]}" if doubts else ""),
    )
