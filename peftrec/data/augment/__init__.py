"""Variants of texts, product rows and histories that mean the same: more to learn from, without new data.

Every augmentation is a frozen value that is called with what it varies and with a generator; the same generator's
state gives the same result. Translating there and back is :class:`peftrec.text.translate.BackTranslation`.
"""

from peftrec.data.augment.attributes import AttributeDrop
from peftrec.data.augment.sequence import Crop, EventDrop, ReorderWithinBasket, SequenceAugmentation, SequenceChain
from peftrec.data.augment.text import SynonymReplacement, TextAugmentation, TextChain, WordDrop

__all__ = [
    "AttributeDrop",
    "Crop",
    "EventDrop",
    "ReorderWithinBasket",
    "SequenceAugmentation",
    "SequenceChain",
    "SynonymReplacement",
    "TextAugmentation",
    "TextChain",
    "WordDrop",
]
