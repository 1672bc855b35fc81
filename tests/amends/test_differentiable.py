"""Gradients of our own backward passes against autograd's."""

import torch

from amends.differentiable import GroupedCausalAttention, LoraLinear, TokenLogprobs


def test_gradients_equal_autograd_on_the_plain_formulas() -> None:
    torch.manual_seed(0)

    def leaf(*size: int) -> torch.Tensor:
        return torch.randn(*size, dtype=torch.float64, requires_grad=True)

    frozen = torch.randn(7, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x, a, b: LoraLinear.apply(x, frozen, None, a, b),
        (leaf(6, 5), leaf(3, 5), leaf(3, 7)),
    )
    hidden = torch.full((9, 9), float("-inf"), dtype=torch.float64).triu_(1)
    hidden[6:, 3:6] = float("-inf")
    for unseen in (None, hidden):
        assert torch.autograd.gradcheck(
            lambda *qkv, unseen=unseen: GroupedCausalAttention.apply(*qkv, unseen),
            (leaf(2, 3, 9, 4), leaf(2, 9, 4), leaf(2, 9, 4)),
        )


def test_token_logprobs_and_their_gradient_equal_log_softmax() -> None:
    torch.manual_seed(0)
    weight, tokens = torch.randn(11, 6), torch.randint(0, 11, (5,))
    ours, plain = (torch.linspace(-1, 1, 30).view(5, 6).requires_grad_() for _ in range(2))
    got = TokenLogprobs.apply(ours, weight, tokens, 0.7)
    want = (plain @ weight.T / 0.7).log_softmax(-1).gather(-1, tokens[:, None]).squeeze(-1)
    torch.testing.assert_close(got, want)
    (got * torch.arange(5)).sum().backward()
    (want * torch.arange(5)).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)
