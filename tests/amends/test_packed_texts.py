"""Texts in a pack are what they are alone, on both backbones."""

import pytest
import torch

from amends.backbone import Backbone
from amends.backbones import AnyBackbone
from amends.lora import Lora
from amends.packed_texts import Span, Text, pack
from amends.peft_backbone import PeftBackbone
from tests.tiny_families import acting_lora, tiny

FIRST, SECOND = (5, 6, 7, 8), (5, 6, 9)
TEXTS: list[Text] = [
    (FIRST, (11, 12, 13)),
    (SECOND, (21,)),
    (FIRST, (14,)),
    (FIRST, ()),
    (FIRST, (11, 12, 13, 15)),
]


def test_answers_to_one_prompt_stand_behind_it_once() -> None:
    packed, found = pack(TEXTS)
    first = [*FIRST, 11, 12, 13, 14, 11, 12, 13, 15]
    assert packed.token_ids.tolist() == [*first, *SECOND, 21]
    assert packed.spans == (Span(4, (3, 1, 0, 4)), Span(3, (1,)))
    assert packed.lengths == [12, 4]
    assert found == [(3, 4), (14, 15), (3, 7), (3, 8), (3, 8)]
    assert packed.positions().tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 4, 5, 6, 7, 0, 1, 2, 3]


def test_the_texts_of_a_pack_are_found_again() -> None:
    packed, _ = pack(TEXTS)
    rows, places = packed.padded()
    texts = [p + r for p, r in (TEXTS[i] for i in (0, 2, 3, 4, 1))]
    assert rows.tolist() == [[*text, *[0] * (8 - len(text))] for text in texts]
    assert torch.equal(rows.flatten()[places], packed.token_ids)


def test_an_answer_sees_its_prompt_and_itself() -> None:
    assert Span(3, (2,)).unseen() is None  # one text: causal attention says it all
    unseen = Span(2, (2, 1)).unseen()
    assert unseen is not None
    assert (~unseen).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def states(backbone: AnyBackbone, lora: Lora | None, packed: bool) -> list[torch.Tensor]:
    """Of every token of every answer, last states and those after the second layer."""
    found: list[torch.Tensor] = []
    for texts in [TEXTS] if packed else [[text] for text in TEXTS]:
        together, places = pack(texts)
        last, [kept] = backbone.hidden_packed(together, lora, (2,))
        for (_, answer), (end, start) in zip(texts, places, strict=True):
            own = [end, *range(start, start + len(answer))]
            found += [last[own], kept[own]]
    return found


@pytest.mark.parametrize("kind", [Backbone, PeftBackbone])
def test_states_and_gradients_are_those_of_every_text_alone(kind: type[AnyBackbone]) -> None:
    backbone = kind(tiny("llama"), 64)
    gradients = []
    for packed in (False, True):
        lora = acting_lora(backbone)
        lora.parameters()
        found = torch.cat(states(backbone, lora, packed))
        (found * torch.linspace(-1, 1, found.numel()).view_as(found)).sum().backward()
        gradients.append((found.detach(), {n: t.grad for n, t in lora.tensors.items()}))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
    plain = torch.cat(states(backbone, None, packed=True))
    torch.testing.assert_close(torch.cat(states(backbone, None, False)), plain)
    assert float((plain - gradients[1][0]).abs().max()) > 0.1


def test_a_text_alone_is_a_row() -> None:
    backbone = Backbone(tiny("llama"), 64)
    prompt, answer = TEXTS[0]
    together, _ = pack([(prompt, answer)])
    row, _ = backbone.hidden(torch.tensor([[*prompt, *answer]]))
    torch.testing.assert_close(backbone.hidden_packed(together)[0], row[0])
