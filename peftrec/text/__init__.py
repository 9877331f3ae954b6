"""Products, profiles and scenes as text, and texts as batches of words."""

from peftrec.text.templates import ProductTemplate, ProfileTemplate, SceneTemplate, Templates
from peftrec.text.words import WordBatch, batches, tokenise

__all__ = ["ProductTemplate", "ProfileTemplate", "SceneTemplate", "Templates", "WordBatch", "batches", "tokenise"]
