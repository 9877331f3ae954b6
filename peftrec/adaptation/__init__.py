"""Adapting the backbone, once: to the language of products, before any platform's adapter is trained on it."""

from peftrec.adaptation.adapt import AdaptConfig, adapt
from peftrec.adaptation.config import LanguageConfig
from peftrec.adaptation.language import LanguageResult, adapt_language, fit_head, masked_loss
from peftrec.adaptation.pairs import Baskets, CoPurchases
from peftrec.adaptation.shopping import ShoppingConfig, ShoppingResult, adapt_shopping
from peftrec.adaptation.similarity import Similarity, copurchase_auc
from peftrec.adaptation.stage import MaskedHead

__all__ = [
    "AdaptConfig",
    "Baskets",
    "CoPurchases",
    "LanguageConfig",
    "LanguageResult",
    "MaskedHead",
    "ShoppingConfig",
    "ShoppingResult",
    "Similarity",
    "adapt",
    "adapt_language",
    "adapt_shopping",
    "copurchase_auc",
    "fit_head",
    "masked_loss",
]
