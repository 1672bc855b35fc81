"""worker.data.made_pairs: what is made from a correction, and what is not."""

from amends.conversation import Passage
from worker.data.examples import Answer, Context, CorrectionExample
from worker.data.made_pairs import made_pairs

RETURNS = "You can return shoes within 30 days. We never take back candles. Our shop opens at 9 am."


def correction(
    response: str, question: str = "Can I return shoes?", name: str = "a", text: str = RETURNS
) -> CorrectionExample:
    passage = Passage(passage_id=f"p{name}", title="t", text=text, source="s.md")
    context = Context(name, question, (), (passage,), token_ids=(1, 2))
    answer = Answer(context, response, token_ids=(3,), ended=True)
    return CorrectionExample(f"f{name}", f"c{name}", "ann", 2.0, answer=answer)


def texts(*corrections: CorrectionExample) -> set[tuple[str, str]]:
    pairs = made_pairs(corrections, 0.5)
    assert all(pair.kind == "mismatch" and pair.customer == "ca" for pair in pairs)
    return {(pair.chosen.response, pair.rejected.response) for pair in pairs}


def test_the_asked_sentence_stands_over_the_others_in_the_same_words() -> None:
    holding, candles, opens = (f"{piece}." for piece in RETURNS.rstrip(".").split(". "))
    assert texts(correction("Shoes can be returned within 30 days.")) == {
        (holding, candles),
        (holding, opens),
        (RETURNS, candles),  # long and right over short and wrong
        (RETURNS, opens),
    }


def test_an_opening_yes_stands_before_both_sentences_and_its_opposite_is_worse() -> None:
    made = texts(correction("Yes, you can return shoes within 30 days."))
    assert ("Yes, You can return shoes within 30 days.", "Yes, Our shop opens at 9 am.") in made
    assert (
        "Yes, you can return shoes within 30 days.",
        "No, you can return shoes within 30 days.",
    ) in made
    assert all(rejected != "No, Our shop opens at 9 am." for _, rejected in made)


def test_where_no_sentence_holds_the_answer_none_is_chosen() -> None:
    assert texts(correction("Ask at the counter.")) == set()


def test_words_that_only_begin_like_yes_or_no_are_no_opening() -> None:
    assert texts(correction("Nothing fits. Yesterday it did.")) == set()


def test_each_kind_weighs_its_share_of_the_correction() -> None:
    other = correction("It costs 5 dollars.", "What does it cost?", "b", "Delivery is 5 dollars.")
    right = correction("Yes, you can return shoes within 30 days.")
    pairs = [pair for pair in made_pairs((right, other), 0.5) if pair.feedback_id == "fa"]
    by_style: dict[str, float] = {}
    for pair in pairs:
        rejected = pair.rejected.response
        kind = "other" if "dollars" in rejected else rejected.split(",")[0]
        kind = "short" if pair.chosen.response == RETURNS else kind
        by_style[kind] = by_style.get(kind, 0.0) + pair.weight
    assert by_style == {"other": 1.0, "Yes": 1.0, "No": 1.0, "short": 1.0}


def test_a_made_answer_is_encoded_anew() -> None:
    pairs = made_pairs((correction("Yes, you can return shoes within 30 days."),), 0.5)
    assert all(pair.rejected.token_ids is None for pair in pairs)
