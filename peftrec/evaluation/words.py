"""Products by the words of their texts."""

import polars as pl
from scipy import sparse

from peftrec.data.catalog import Catalog


def tfidf(catalog: Catalog) -> sparse.csr_matrix:
    """(n_items, terms) TF-IDF of all that the catalogue says of each product in words, rows of unit length or zero."""
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import

    frame = catalog.frame
    texts = [name for name, kind in frame.schema.items() if kind == pl.String and name != "item_id"]
    lines = frame.select(pl.concat_str(texts, separator=" ", ignore_nulls=True).fill_null(""))[:, 0].to_list()
    return sparse.csr_matrix(TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(lines))
