import pytest

from amends.conversation import Turn
from amends.conversation_store import ConversationStore
from amends.embedded_store import StoreClient
from amends.errors import IdempotencyConflict, InvalidInput, NotFound
from amends.record import new_id, now_s


@pytest.fixture
def store(redis: StoreClient) -> ConversationStore:
    return ConversationStore(redis)


def _turn(conversation_id: str, created_at: float = 2e9, message: str = "hello") -> Turn:
    return Turn(
        turn_id=new_id(),
        conversation_id=conversation_id,
        message=message,
        response="hi",
        policy_version=0,
        origin="policy",
        created_at=created_at,
    )


def test_a_conversation_reads_back_with_its_turns_in_order(store: ConversationStore) -> None:
    opened = store.open("visitor")
    turns = [_turn(opened.conversation_id, 2e9 + i, f"message {i}") for i in range(3)]
    for turn in turns:
        store.append(turn)
    read = store.read(opened.conversation_id)
    assert read == opened.model_copy(update={"turns": tuple(turns)})
    assert store.turn(turns[1].turn_id) == turns[1]


def test_a_turn_appended_twice_is_one_turn(store: ConversationStore) -> None:
    turn = _turn(store.open("visitor").conversation_id)
    store.append(turn)
    store.append(turn)
    assert store.read(turn.conversation_id).turns == (turn,)
    with pytest.raises(IdempotencyConflict):
        store.append(turn.model_copy(update={"response": "something else"}))
    assert store.read(turn.conversation_id).turns == (turn,)


def test_a_message_is_stored_once_however_often_it_is_sent(store: ConversationStore) -> None:
    conversation_id = store.open("visitor").conversation_id
    assert store.add_message(conversation_id, "m1", "where is my order?")
    assert not store.add_message(conversation_id, "m1", "where is my order?")
    with pytest.raises(IdempotencyConflict):
        store.add_message(conversation_id, "m1", "something else")
    store.add_message(conversation_id, "m2", "hello?")
    assert store.messages(conversation_id) == {"m1": "where is my order?", "m2": "hello?"}


def test_a_conversation_begins_with_its_first_message_answered_or_not(
    store: ConversationStore,
) -> None:
    before = now_s()
    begun = [store.open("visitor").conversation_id for _ in range(3)]
    store.open("says nothing")
    for conversation_id in begun:
        store.add_message(conversation_id, "m1", "hello?")
    until = now_s() + 1
    found = store.begun(before, until, 10)
    store.add_message(begun[0], "m2", "anybody there?")

    assert [name for name, _ in found] == begun
    assert store.begun(before, until, 10) == found
    assert store.begun(found[1][1], until, 1) == [found[1]]
    assert store.begun(before, found[1][1], 10) == [found[0]]
    assert store.begun(until, until + 1, 10) == []
    assert [one.conversation_id for one in store.read_many(["nothing", *begun])] == begun


def test_a_conversation_from_before_this_was_noted_does_not_begin_again(
    store: ConversationStore, redis: StoreClient
) -> None:
    conversation_id = store.open("visitor").conversation_id
    redis.hset(f"amends:conversation:{conversation_id}:messages", "m1", "hello?")
    store.add_message(conversation_id, "m2", "anybody there?")
    assert store.messages(conversation_id) == {"m1": "hello?", "m2": "anybody there?"}
    assert store.begun(0, now_s() + 1, 10) == []


def test_a_foreign_conversation_looks_like_one_that_does_not_exist(
    store: ConversationStore,
) -> None:
    mine = store.open("visitor").conversation_id
    assert store.read_for(mine, "visitor").visitor_id == "visitor"
    with pytest.raises(NotFound) as foreign:
        store.read_for(mine, "somebody else")
    with pytest.raises(NotFound) as missing:
        store.read_for("nothing", "somebody else")
    assert str(foreign.value).replace(mine, "X") == str(missing.value).replace("nothing", "X")


def test_a_key_beside_a_conversation_is_no_conversation(store: ConversationStore) -> None:
    mine = store.open("visitor").conversation_id
    for field in ("schema_version", "visitor_id", "opened_at"):
        store.add_message(mine, field, "1")
    for beside in (f"{mine}:messages", f"{mine}:turns"):
        with pytest.raises(NotFound):
            store.read_for(beside, "1")


def test_nothing_is_written_to_a_conversation_that_does_not_exist(
    store: ConversationStore, redis: StoreClient
) -> None:
    with pytest.raises(NotFound):
        store.add_message("nothing", "m", "text")
    with pytest.raises(NotFound):
        store.append(_turn("nothing"))
    with pytest.raises(NotFound):
        store.turn("nothing")
    assert redis.keys("*") == []


def test_recent_gives_the_conversation_that_spoke_last_first_page_by_page(
    store: ConversationStore,
) -> None:
    ids = [store.open(f"visitor {i}").conversation_id for i in range(5)]
    for when, i in enumerate([3, 0, 4, 1, 2]):
        store.append(_turn(ids[i], 2e9 + when))
    newest_first = [ids[i] for i in [2, 1, 4, 0, 3]]
    page = store.recent(3)
    assert [conversation.conversation_id for conversation in page] == newest_first[:3]
    rest = store.recent(3, before=page[-1].conversation_id)
    assert [conversation.conversation_id for conversation in rest] == newest_first[3:]
    assert rest[0].turns[0].conversation_id == ids[0]
    with pytest.raises(InvalidInput):
        store.recent(0)
    with pytest.raises(NotFound):
        store.recent(3, before="nothing")


def test_a_conversation_in_which_nobody_spoke_crowds_out_no_other(store: ConversationStore) -> None:
    spoken = store.open("visitor").conversation_id
    store.append(_turn(spoken))
    empty = store.open("visitor")
    assert [conversation.conversation_id for conversation in store.recent(1)] == [spoken]
    assert store.read(empty.conversation_id) == empty
