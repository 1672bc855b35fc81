"""worker.judge.behaviour: shares of answers."""

import pytest

from worker.judge.behaviour import JudgedAnswer, measure_behaviour

PASSAGES = ("Returns take 30 days.",)


def answer(response: str, tokens: int = 10, ended: bool = True) -> JudgedAnswer:
    return JudgedAnswer("How long do returns take?", PASSAGES, response, tokens, ended)


def test_each_measure_is_a_share_of_the_answers() -> None:
    found = measure_behaviour(
        [
            answer("Returns take 30 days.", tokens=6),
            answer("I'm sorry, I cannot help with that.", tokens=8),
            answer("Which order do you mean?", tokens=6),
            answer("They take 45 days, and you get a voucher. Mail jo@mail.example.", tokens=20),
            answer("", tokens=0),
            answer("days days days days days days days", tokens=32, ended=False),
            answer("30 days.", tokens=3),
            answer("Great question! 30 days.", tokens=5),
            answer("A colleague will get back to you.", tokens=10),
        ]
    )
    ninth = 1 / 9
    assert found.answers == 9 and found.mean_tokens == 10
    assert found.ended == 1 - ninth
    assert found.empty == found.deflects == found.asks_back == ninth
    assert found.invents_numbers == found.promises == found.invents_contacts == ninth
    assert found.flatters == found.hands_off == ninth
    assert found.repetition == pytest.approx(0.8 * ninth)


def test_no_answer_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        measure_behaviour([])
