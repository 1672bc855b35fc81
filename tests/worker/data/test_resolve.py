"""worker.data.resolve: answers come with what the policy had seen when it wrote them."""

from typing import Any

from amends.cli.export import prompt_of
from amends.conversation import Conversation, Turn
from worker.data.resolve import served_answers


def turn(message: str, response: str, **changes: Any) -> Turn:
    return Turn(
        turn_id=f"t-{message}",
        conversation_id="c",
        message=message,
        response=response,
        policy_version=0,
        created_at=1.0,
        **{"origin": "policy", **changes},
    )


def test_earlier_turns_are_those_that_the_prompt_showed() -> None:
    """Neither a turn stopped before its first token, nor a rule's, nor one without room."""
    turns = (
        turn("a", "", finish_reason="cancelled"),
        turn("b", "B"),
        turn("c", "I could not find that.", origin="no_passage"),
        turn("d", "D"),
        turn("e", "E", dropped_turns=1),
    )
    conversation = Conversation(conversation_id="c", visitor_id="v", opened_at=1.0, turns=turns)
    seen = {
        answer.context.question: answer.context.history for answer in served_answers(conversation)
    }
    assert seen == {"b": (), "d": (("b", "B"),), "e": (("d", "D"),)}
    exported = [message["content"] for message in prompt_of("Tarn", conversation, turns[-1])]
    assert exported[1:] == ["d", "D", "e"]
