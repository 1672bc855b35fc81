"""`amends export` of real records: TRL's columns and nothing else."""

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import pytest

from amends.conversation import Passage, Turn
from amends.conversation_store import ConversationStore
from amends.exclusion_store import ExclusionStore
from amends.feedback import Correction, Feedback, Ranking, Rater, Rating, Thumb
from amends.feedback_store import FeedbackStore
from amends.store_client import StoreClient
from tests.amends.command_line import Amends

VISITOR, EXPERT = Rater(rater_id="v", role="visitor"), Rater(rater_id="e", role="expert")


@pytest.fixture
def conversation_id(redis: StoreClient) -> str:
    """Two turns, the second judged in every way."""
    conversations, feedback = ConversationStore(redis), FeedbackStore(redis)
    conversation_id = conversations.open("v").conversation_id
    passage = Passage(passage_id="p", title="Returns", text="30 days.", source="returns.md")
    for number, message in enumerate(("Hello", "How long?")):
        turn = Turn(
            turn_id=f"t{number}",
            conversation_id=conversation_id,
            message=message,
            response=f"served {number}",
            policy_version=0,
            origin="policy",
            passages=(passage,),
            created_at=1.0 + number,
        )
        conversations.append(turn)
    common = {"conversation_id": conversation_id, "given_at": 5.0}
    given: list[Feedback] = [
        Thumb(turn_id="t1", value=-1, rater=VISITOR, **common),
        Rating(value=2, rater=VISITOR, **common),
        Correction(turn_id="t1", response="30 days.", rater=EXPERT, **common),
        Ranking(turn_id="t1", responses=("best", "fair", "worst"), rater=EXPERT, **common),
    ]
    for number, item in enumerate(given):
        feedback.add(item, f"key{number}")
    return conversation_id


def rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_each_kind_has_trls_columns(amends: Amends, conversation_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    amends("export", str(folder))

    preferences = rows(folder, "preference")
    assert all(set(row) == {"prompt", "chosen", "rejected"} for row in preferences)
    assert [(row["chosen"], row["rejected"]) for row in preferences] == [
        (answer("30 days."), answer("served 1")),
        (answer("best"), answer("fair")),
        (answer("best"), answer("worst")),
        (answer("fair"), answer("worst")),
    ]
    [thumb] = rows(folder, "unpaired-preference")
    assert set(thumb) == {"prompt", "completion", "label"}
    assert (thumb["completion"], thumb["label"]) == (answer("served 1"), False)
    [correction] = rows(folder, "prompt-completion")
    assert set(correction) == {"prompt", "completion"}
    [messages] = rows(folder, "messages")
    assert [m["content"] for m in messages["messages"]] == [
        "Hello",
        "served 0",
        "How long?",
        "served 1",
    ]


def test_a_prompt_is_what_the_policy_saw(
    amends: Amends, conversation_id: str, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    amends("export", str(folder), "--kind", "prompt-completion")

    system, *spoken = rows(folder, "prompt-completion")[0]["prompt"]
    assert system["role"] == "system" and "Returns\n30 days." in system["content"]
    assert [(m["role"], m["content"]) for m in spoken] == [
        ("user", "Hello"),
        ("assistant", "served 0"),
        ("user", "How long?"),
    ]
    assert [file.name for file in sorted(folder.iterdir())] == [
        "manifest.json",
        "prompt-completion.jsonl",
    ]


def test_the_manifest_names_rows_and_hashes(
    amends: Amends, conversation_id: str, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    printed = json.loads(amends("export", str(folder), "--json").stdout)

    assert printed == json.loads((folder / "manifest.json").read_text())
    assert printed["files"]["preference.jsonl"]["rows"] == 4
    content = (folder / "preference.jsonl").read_bytes()
    assert printed["files"]["preference.jsonl"]["sha256"] == hashlib.sha256(content).hexdigest()


def test_only_the_named_folder_is_touched_and_a_failure_leaves_nothing(
    amends: Amends, conversation_id: str, redis: StoreClient, tmp_path: Path
) -> None:
    (tmp_path / "export.new").mkdir()
    (tmp_path / "export.new" / "mine").write_text("keep me")
    redis.set("amends:turn:t1", "no turn")
    amends("export", str(tmp_path / "export"), code=1)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert "export" not in before and not [name for name in before if name.startswith(".")]
    redis.delete("amends:turn:t1")
    amends("export", str(tmp_path / "export"))
    assert (tmp_path / "export.new" / "mine").read_text() == "keep me"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "export"])


def test_a_folder_that_exists_is_left_alone(amends: Amends, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()

    assert "does not exist yet" in amends("export", str(tmp_path / "export"), code=1).stderr


@pytest.mark.parametrize(
    "kind, name, left",
    [("rater", "e", (0, 1, 1)), ("rater", "v", (4, 0, 1)), ("customer", "v", (0, 0, 0))],
)
def test_whom_rounds_leave_out_is_left_out_and_counted(
    amends: Amends,
    conversation_id: str,
    redis: StoreClient,
    tmp_path: Path,
    kind: Literal["rater", "customer"],
    name: str,
    left: tuple[int, int, int],
) -> None:
    ExclusionStore(redis).exclude(kind, name, "me", "asked for it")
    folder = tmp_path / "export"
    told = amends("export", str(folder))
    found = tuple(len(rows(folder, k)) for k in ("preference", "unpaired-preference", "messages"))
    assert found == left
    counted = {"conversations": 1} if kind == "customer" else {"judgements": 2}
    assert json.loads((folder / "manifest.json").read_text())["left_out"] == counted
    assert "Left out: " in told.stderr
