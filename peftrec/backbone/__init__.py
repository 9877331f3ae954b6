"""The frozen BERT: loading, fingerprints, the item encoder and its table on disk."""

from peftrec.backbone.arithmetic import native_precision
from peftrec.backbone.backbone import Backbone
from peftrec.backbone.int8 import Int8Embedding, Int8Linear, int8_linears, quantise_rows
from peftrec.backbone.items import ItemTable
from peftrec.backbone.saving import refuse_occupied
from peftrec.backbone.shopping import Shopping

__all__ = [
    "Backbone",
    "Int8Embedding",
    "Int8Linear",
    "ItemTable",
    "Shopping",
    "int8_linears",
    "native_precision",
    "quantise_rows",
    "refuse_occupied",
]
