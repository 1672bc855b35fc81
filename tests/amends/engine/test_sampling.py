"""Drawing tokens: the distribution, the nucleus, greedy."""

import torch

from amends.engine.sampling import sample


def draw(logits: torch.Tensor, temperature: float, top_p: float, count: int) -> torch.Tensor:
    uniforms = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = logits.expand(count, -1)
    tokens, _ = sample(
        rows, torch.full((count,), temperature), torch.full((count,), top_p), uniforms
    )
    return torch.bincount(tokens, minlength=logits.shape[-1]).double()


def test_samples_follow_the_softmax_by_chi_square() -> None:
    logits = torch.tensor([1.0, 0.2, -0.5, 2.0, 0.0, -1.0])
    found = draw(logits, 0.7, 1.0, 20_000)
    want = (logits / 0.7).softmax(-1).double() * 20_000
    assert float(((found - want).square() / want).sum()) < 20.5  # 99.9 % of chi-square, 5 degrees


def test_samples_of_the_nucleus_follow_the_renormalised_softmax_by_chi_square() -> None:
    logits = torch.tensor([0.1, 2.0, -0.4, 1.2, 0.9, -1.5])
    found = draw(logits, 0.8, 0.95, 5_000)
    probs, order = (logits / 0.8).softmax(-1).double().sort(descending=True)
    kept = order[probs.cumsum(-1) - probs < 0.95]
    want = (logits[kept] / 0.8).softmax(-1).double() * 5_000
    assert len(kept) == 4
    assert found.sum() == found[kept].sum()
    assert float(((found[kept] - want).square() / want).sum()) < 16.3  # 99.9 %, 3 degrees


def test_the_nucleus_keeps_the_fewest_tokens_that_reach_top_p() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    found = draw(logits, 1.0, 0.75, 2_000)
    assert found[2:].sum() == 0
    assert abs(float(found[0]) / 2_000 - 0.5 / 0.8) < 0.04


def test_a_nucleus_of_many_tokens_is_whole() -> None:
    logits = torch.zeros(3_000)
    logits[1_000:] = -0.01
    found = draw(logits, 1.0, 0.5, 20_000)
    assert 1_480 < int((found > 0).sum()) <= 1_510
    assert found[:1_000].sum() > 0.6 * 20_000


def test_a_row_draws_the_same_alone_and_beside_others() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 400, generator=generator)
    temperatures = torch.tensor([0.7, 0.0, 0.3, 2.0, 0.7])
    top_ps = torch.tensor([1.0, 0.5, 0.9, 0.99, 0.2])
    uniforms = torch.rand(5, dtype=torch.float64, generator=generator)
    together = sample(logits, temperatures, top_ps, uniforms)[0].tolist()
    alone = [
        sample(*(t[i : i + 1] for t in (logits, temperatures, top_ps, uniforms)))[0].item()
        for i in range(5)
    ]
    assert together == alone


def test_logprobs_are_those_of_the_raw_logits_whatever_the_temperature() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    tokens, logprobs = sample(logits, torch.tensor([0.0]), torch.tensor([0.5]), torch.tensor([0.3]))
    assert tokens.tolist() == [1]
    torch.testing.assert_close(logprobs, logits.log_softmax(-1)[:, 1])
