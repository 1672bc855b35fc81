"""Batches of answers, several of them to one prompt, are what their answers are one by one."""

import torch

from amends.backbone import Backbone
from amends.conversation import Passage
from amends.prompt import PromptRenderer
from tests.tiny_families import acting_lora, tiny
from tests.tiny_model import make_tokenizer
from worker.data.examples import Answer, Context
from worker.ppo.actor_critic import frozen_logprobs
from worker.sft import response_nll
from worker.tokens import AnswerTokens, TokenBatch, Tokens, by_prompt

CPU = torch.device("cpu")
FIRST, SECOND = (5, 6, 7, 8), (5, 6, 9)
ITEMS: list[Tokens] = [
    (FIRST, (11, 12, 13)),
    (SECOND, (21,)),
    (FIRST, (14,)),
    (FIRST, ()),
    (SECOND, (22, 23, 24, 25)),
    (FIRST, (11, 12)),
]


def test_responses_lie_where_the_batch_says() -> None:
    batch = TokenBatch.of(ITEMS, CPU)
    assert batch.responses.tolist() == [token for _, response in ITEMS for token in response]
    before = batch.texts.token_ids[batch.before].tolist()
    want = [token for p, r in ITEMS for token in (p[-1], *r)[: len(r)]]
    assert before == want
    assert batch.spread(batch.responses.float())[4].tolist() == [22, 23, 24, 25]
    assert batch.spread(batch.responses.float())[3].tolist() == [0, 0, 0, 0]


def test_logprobs_are_those_of_every_answer_alone() -> None:
    backbone = Backbone(tiny("llama"), 64)
    lora = acting_lora(backbone)
    together = frozen_logprobs(backbone, lora, TokenBatch.of(ITEMS, CPU), 0.7)
    total = 0.0
    for row, item in zip(together, ITEMS, strict=True):
        count = len(item[1])
        assert not row[count:].any()
        if count:
            alone = TokenBatch.of([item], CPU)
            torch.testing.assert_close(row[:count], frozen_logprobs(backbone, lora, alone, 0.7)[0])
            total += float(response_nll(backbone, lora, alone))
    both = float(response_nll(backbone, lora, TokenBatch.of(ITEMS, CPU)))
    assert abs(both - total) < 1e-3 < total


def test_which_of_yes_and_no_an_expert_said_is_not_imitated() -> None:
    renderer = PromptRenderer(make_tokenizer(), 384, 64)
    tokens = AnswerTokens(renderer, "Tarn")
    passage = Passage(passage_id="p", title="Returns", text="30 days.", source="")
    context = Context("", "may i return it?", (), (passage,), None)
    for response, given in (
        ("Yes, within 30 days.", "Yes"),
        ("no.", "no"),
        ("No", "No"),  # the end alone is imitated
        ("Noon is best.", ""),
        ("Within 30 days, yes.", ""),
    ):
        answer = Answer(context, response, token_ids=None, ended=True)
        (prompt, whole), (seen, left) = tokens.answer(answer), tokens.imitated(answer)
        assert (*seen, *left) == (*prompt, *whole) and left
        assert seen[: len(prompt)] == prompt
        assert renderer.decode(seen[len(prompt) :]) == given


def test_groups_hold_every_item_once_and_prompts_together() -> None:
    groups = by_prompt(ITEMS, 3)
    assert sorted(i for group in groups for i in group) == [*range(6)]
    assert [len(group) for group in groups] == [3, 3]
    order = [ITEMS[i][0] for group in groups for i in group]
    assert order == [SECOND] * 2 + [FIRST] * 4
