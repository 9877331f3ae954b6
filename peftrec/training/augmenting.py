"""Where training takes the other ways to tell the same from, see :class:`peftrec.training.config.Augmentation`."""

import numpy as np
from numpy.typing import NDArray

from peftrec.backbone import Backbone
from peftrec.data.augment.sequence import SequenceChain
from peftrec.data.histories import Histories
from peftrec.model.platform import Platform, unit
from peftrec.training.config import Augmentation


def text_variants(
    platform: Platform,
    backbone: Backbone,
    augmentation: Augmentation | None,
    rng: np.random.Generator,
    *,
    progress: bool,
) -> NDArray[np.float32] | None:
    """(variants, texts, H) unit vectors of other texts for each distinct text of a platform; None where none are wanted.

    They are not kept on disk: another training draws other texts.
    """
    if augmentation is None or (augmentation.attributes is None and augmentation.text is None):
        return None
    _, first = np.unique(platform.text_of, return_index=True)
    frame, found = platform.dataset.catalog.frame[first], list[NDArray[np.float32]]()
    for _ in range(augmentation.variants):
        told = frame if augmentation.attributes is None else augmentation.attributes(frame, rng=rng)
        texts = backbone.templates.product.render(told).to_list()
        texts = texts if augmentation.text is None else augmentation.text(texts, rng=rng)
        found.append(unit(backbone.encode(texts, progress=progress)))
    return np.stack(found)


def told_otherwise(
    histories: Histories, augmentation: Augmentation | None, rng: np.random.Generator, *, of: NDArray[np.bool_]
) -> Histories:
    """The same shoppers, some of those for whom ``of`` (B,) is true with a past that is told in another way."""
    if augmentation is None or augmentation.history is None:
        return histories
    rows = np.flatnonzero(of)
    chain = SequenceChain(((augmentation.history, augmentation.share),))
    return histories.with_pasts(rows, chain(histories.take(rows), rng=rng))
