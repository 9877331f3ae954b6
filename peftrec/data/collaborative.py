# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalSubscript=false
# scipy has no types; the rest of the package is checked strictly.
"""Who buys alike, and what: scores of products by the panel of a snapshot."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from peftrec.data.histories import Ragged
from peftrec.data.matrices import dense_product, product_at
from peftrec.data.pairs import Pairs
from peftrec.data.snapshot import Snapshot

NEIGHBOURS = 100


def collaborative(pairs: Pairs, snapshot: Snapshot) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What similar shoppers buy, for every product: two dense (B, n_items) float32 arrays.

    The first, *neighbours*, is the decayed purchases of the 100 panel shoppers with the most similar purchase
    frequencies (the neighbour term of UP-CF, Faggioli et al., 2020). The second, *together*, weighs every panel shopper
    by the damped affinity to this one, and so scores products bought together with those of the history.

    A panel row that equals the shopper's own past is left out of the neighbours: in training it is the shopper itself.
    """
    panel, shape = snapshot.panel, (len(pairs.bounds) - 1, snapshot.n_items)
    if not panel.frequency.shape[0]:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    alike, shared = _kinship(pairs, snapshot)
    together = panel.by_item[2] @ shared.T  # product by product: each is written once
    return dense_product(sparse.csr_matrix(alike), panel.recent), np.ascontiguousarray(together.T, np.float32)


def collaborative_at(
    pairs: Pairs, snapshot: Snapshot, items: Ragged
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The scores of :func:`collaborative` for each shopper's own products alone, two (C,) arrays."""
    if not snapshot.panel.frequency.shape[0]:
        return np.zeros(len(items.values), np.float32), np.zeros(len(items.values), np.float32)
    _, recent, affinity = snapshot.panel.by_item
    alike, shared = _kinship(pairs, snapshot)
    return product_at(recent, alike, items.values, items.rows), product_at(affinity, shared, items.values, items.rows)


def _kinship(pairs: Pairs, snapshot: Snapshot) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, U) weights of the panel's shoppers: shares of the nearest ones, and affinity to all."""
    panel, bought = snapshot.panel, pairs.times > 0
    item, row = pairs.item[bought], pairs.row[bought]
    ends = np.searchsorted(row, np.arange(len(pairs.bounds)))
    times = pairs.times[bought]  # rows need no scaling for a cosine
    length = np.sqrt(np.bincount(row, weights=times * times, minlength=len(pairs.bounds) - 1))

    def of_shoppers(values: NDArray[np.floating]) -> sparse.csr_matrix:
        return sparse.csr_matrix((values.astype(np.float32), item, ends), shape=(len(ends) - 1, snapshot.n_items))

    frequency_of, _, affinity_of = panel.by_item
    alike = dense_product(of_shoppers(times / length[row]), frequency_of)
    alike[alike > 1 - 1e-5] = 0
    if alike.shape[1] > NEIGHBOURS:
        rest = np.argpartition(-alike, NEIGHBOURS, axis=1)[:, NEIGHBOURS:]
        np.put_along_axis(alike, rest, 0, axis=1)
    alike /= alike.sum(axis=1, keepdims=True) + 1e-9
    return alike, dense_product(of_shoppers(np.log1p(pairs.lasting[bought]) * panel.scale[item]), affinity_of)
