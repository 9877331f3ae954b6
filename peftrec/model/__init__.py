"""The purchase model: a decoder over products, its heads, its candidates, and the adapter that holds what was learned."""

from peftrec.model.adapter import Adapter
from peftrec.model.candidates import CandidateConfig
from peftrec.model.platform import Platform
from peftrec.model.purchase import PurchaseModel
from peftrec.model.scoring import AdapterRecommender

__all__ = ["Adapter", "AdapterRecommender", "CandidateConfig", "Platform", "PurchaseModel"]
