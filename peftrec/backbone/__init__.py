"""The frozen BERT: loading, fingerprints, the item encoder and its table on disk."""

from peftrec.backbone.backbone import Backbone
from peftrec.backbone.int8 import Int8Embedding, Int8Linear, int8_linears, quantise_rows
from peftrec.backbone.items import ItemTable

__all__ = ["Backbone", "Int8Embedding", "Int8Linear", "ItemTable", "int8_linears", "quantise_rows"]
