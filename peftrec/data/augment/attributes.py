"""Products described by fewer of their attributes."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from peftrec.data import columns as col
from peftrec.data.augment.shares import check_share
from peftrec.data.reading.values import is_blank


@dataclass(frozen=True)
class AttributeDrop:
    """Empties text attributes of products, so that templates render them without; shops often know less of a product.

    Ids and numbers stay as they are, as does a product with no other text than its attributes.

    Args:
        share: Chance of each attribute of each product.
        keep: Columns that always stay.

    Raises:
        ConfigError: ``share`` is not within 0..1.
    """

    share: float = 0.2
    keep: tuple[str, ...] = (col.TITLE, col.IMAGE)

    def __post_init__(self) -> None:
        check_share(self.share)

    def __call__(self, frame: pl.DataFrame, *, rng: np.random.Generator) -> pl.DataFrame:
        """The catalogue's frame with nulls in place of what was dropped."""
        texts = [name for name, dtype in frame.schema.items() if _is_text(dtype) and not name.endswith("_id")]
        attributes = [name for name in texts if name not in self.keep]
        kept = [~is_blank(pl.col(name).cast(pl.String)) for name in texts if name in self.keep]
        dropped = rng.random((frame.height, len(attributes))) < self.share
        readable = pl.any_horizontal(*kept, pl.lit(False))
        return frame.with_columns(
            pl.when(pl.Series(mask) & readable).then(None).otherwise(pl.col(name)).alias(name)
            for name, mask in zip(attributes, dropped.T, strict=True)
        )


def _is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)
