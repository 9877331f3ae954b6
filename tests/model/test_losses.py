import pytest
import torch

from peftrec.model.losses import listwise_loss, purchase_loss, retrieval_loss


def test_losses_of_a_sample_estimate_those_of_all_candidates():
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(1, 600, generator=random), torch.zeros(1, 600)
    labels[0, :3] = 1
    draws = []
    for _ in range(400):
        at = torch.cat([torch.arange(3), 3 + torch.randperm(597, generator=random)[:97]])
        weight = torch.where(labels[:, at] > 0, 1.0, 597 / 97)
        draws.append([float(loss(logits[:, at], labels[:, at], weight)) for loss in (purchase_loss, listwise_loss)])
    whole = [float(loss(logits, labels, torch.ones(1, 600))) for loss in (purchase_loss, listwise_loss)]
    assert torch.tensor(draws).mean(dim=0).tolist() == pytest.approx(whole, rel=0.01)
    blind = float(listwise_loss(logits[:, :100], labels[:, :100], torch.ones(1, 100)))
    assert whole[1] - blind > 1  # what it would be if those left out were not counted


def test_padding_says_nothing():
    logits, labels = torch.tensor([[1.0, -1.0, 50.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    weight = torch.tensor([[1.0, 2.0, 0.0]])
    for loss in (purchase_loss, listwise_loss):
        assert float(loss(logits, labels * (weight > 0), weight)) == pytest.approx(
            float(loss(logits[:, :2], labels[:, :2], weight[:, :2]))
        )


def test_rows_without_a_purchase_do_not_count_in_the_listwise_loss():
    logits, labels = torch.tensor([[1.0, 0.0], [3.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    both = listwise_loss(logits, labels, torch.ones(2, 2))
    assert float(both) == pytest.approx(float(listwise_loss(logits[:1], labels[:1], torch.ones(1, 2))))


def test_the_retrieval_loss_is_that_of_the_whole_catalogue_with_popularity():
    """Drawing by popularity stands for log popularity in every score (log-Q correction); no draw stands for none."""
    random = torch.Generator().manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(50, 8, generator=random), dim=-1)
    shoppers, bought = torch.randn(3, 8, generator=random), torch.tensor([4, 17, 30])
    popularity = torch.rand(50, generator=random).pow(4) + 1e-3
    popularity /= popularity.sum()
    drawn = torch.multinomial(popularity, 400_000, replacement=True, generator=random)
    sharpness, mask = torch.tensor([[2.0]]), torch.ones(1, 1, dtype=torch.bool)
    scores = 2 * shoppers @ items.T
    expected = (scores + popularity.log()).logsumexp(dim=1) - scores.gather(1, bought[:, None])[:, 0]
    for row in range(3):
        one = slice(row, row + 1)
        found = retrieval_loss(shoppers[one], items[bought[one]][None], mask, items[drawn], sharpness)
        assert float(found) - torch.tensor(400_000.0).log().item() == pytest.approx(float(expected[row]), abs=0.01)
    plain = scores.logsumexp(dim=1) - torch.tensor(50.0).log() - scores.gather(1, bought[:, None])[:, 0]
    assert (plain - expected).abs().max() > 0.1  # what even draws would say


def test_places_without_a_first_purchase_do_not_count_in_the_retrieval_loss():
    random = torch.Generator().manual_seed(0)
    shopper, positives, negatives = (torch.randn(*shape, generator=random) for shape in ((2, 4), (2, 3, 4), (9, 4)))
    mask = torch.tensor([[True, False, False], [True, True, False]])
    found = retrieval_loss(shopper, positives, mask, negatives, torch.ones(1, 1))
    positives[~mask] = 100.0
    assert float(found) == float(retrieval_loss(shopper, positives, mask, negatives, torch.ones(1, 1)))
