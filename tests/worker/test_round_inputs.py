"""worker.round_inputs: what the first attempt gathered, every later one gathers again."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from amends.adapter_store import AdapterStore
from amends.conversation import Passage, Sampled, Turn
from amends.conversation_store import ConversationStore
from amends.embedded_store import StoreClient
from amends.exclusion_store import ExclusionStore
from amends.feedback import Correction, Rater, Thumb
from amends.feedback_store import FeedbackStore
from amends.knowledge import Knowledge, Question, folder_of
from amends.runs import Run, Runs
from amends.settings import Settings
from tests.worker.recorder import Recorder
from worker.data.quarantine import YOUNG
from worker.learning_settings import LearningSettings
from worker.round_inputs import RoundInputs, Sources, gather

QUESTION = "how long do i have to return a jacket"


@dataclass
class Shop:
    """A store with an open run, and what a round gathers from it."""

    settings: Settings
    sources: Sources
    run: Run
    runs: Runs
    told: list[str] = field(default_factory=list)  # by the last round, to its operator

    def next_run(self) -> None:
        """The round ends, having learned; another begins."""
        self.runs.to_gating(self.run.run_id, self.run.epoch)
        self.runs.finish(self.run.run_id, self.run.epoch, "REJECTED")
        self.sources.feedback.complete(self.run.run_id)
        self.run = self.runs.claim(self.runs.create(requested_by="test").run_id)
        (self.settings.runs_folder / str(self.run.run_id)).mkdir()

    def chat(
        self, turn_id: str, base_hash: str = "ours", given_at: float = 1.0, expert: str = "ann"
    ) -> Turn:
        """One visitor's answered question, with a thumb and a correction."""
        conversation = self.sources.conversations.open(f"visitor {turn_id}")
        knowledge = Knowledge.load(folder_of(self.settings))
        turn = Turn(
            turn_id=turn_id,
            conversation_id=conversation.conversation_id,
            message=f"{QUESTION} {turn_id}",
            response="Some days.",
            policy_version=0,
            origin="policy",
            passages=knowledge.retrieve(QUESTION, 2),
            sampled=Sampled(
                prompt_token_ids=(1, 2),
                token_ids=(3, 4),
                logprobs=(-1.0, -1.0),
                temperature=0.3,
                top_p=0.9,
                base_hash=base_hash,
            ),
            created_at=1.0,
        )
        self.sources.conversations.append(turn)
        place = {"conversation_id": turn.conversation_id, "turn_id": turn_id, "given_at": given_at}
        visitor = Rater(rater_id=conversation.visitor_id, role="visitor")
        by = Rater(rater_id=expert, role="expert")
        text = f"You have 45 days, {turn_id}."
        self.sources.feedback.add(Thumb(**place, rater=visitor, value=-1))
        self.sources.feedback.add(Correction(**place, rater=by, response=text))
        return turn

    def gather(
        self, learning: LearningSettings | None = None, knowledge: Knowledge | None = None
    ) -> RoundInputs:
        knowledge = knowledge or Knowledge.load(folder_of(self.settings))
        learning = learning or LearningSettings()
        report = Recorder()
        found = gather(self.run, self.sources, knowledge, self.settings, learning, report)
        self.told = report.logs
        return found


@pytest.fixture
def shop(redis: StoreClient, tmp_path: Path) -> Shop:
    settings = Settings(home=tmp_path)
    adapters = AdapterStore(settings.adapters_folder, "ours", may_start_line=True)
    sources = Sources(FeedbackStore(redis), ConversationStore(redis), adapters)
    runs = Runs(redis)
    run = runs.claim(runs.create(requested_by="test").run_id)
    (settings.runs_folder / str(run.run_id)).mkdir(parents=True)
    return Shop(settings, sources, run, runs)


def token_ids(inputs: RoundInputs) -> dict[str, tuple[bool, bool]]:
    """turn_id -> whether prompt and response come as the tokens that were sampled."""
    sides = (inputs.dataset.train, inputs.dataset.holdout)
    answers = [thumb.answer for side in sides for thumb in side.thumbs]
    return {
        a.context.turn_id: (a.context.token_ids is not None, a.token_ids is not None)
        for a in answers
    }


def test_what_came_after_the_first_attempt_waits_for_the_next_round(shop: Shop) -> None:
    shop.chat("one")
    first = shop.gather()
    shop.chat("two")
    again = shop.gather()
    assert again.dataset.manifest.hash == first.dataset.manifest.hash
    assert again.work_folder == first.work_folder
    assert set(token_ids(first)) == {"one"}


def test_other_learning_settings_do_not_meet_the_old_checkpoints(shop: Shop) -> None:
    shop.chat("one")
    folders = {shop.gather(LearningSettings(seed=seed)).work_folder for seed in (0, 1)}
    for changed in ({"lora_rank": 8}, {"lora_alpha": 8.0}):
        shop.settings = shop.settings.model_copy(update=changed)
        folders.add(shop.gather().work_folder)
    assert len(folders) == 4


def test_a_run_of_another_install_leaves_its_number_s_files_to_it(shop: Shop) -> None:
    shop.chat("one")
    first = shop.gather().dataset.manifest
    shop.run = shop.run.model_copy(update={"created_at": shop.run.created_at + 60})
    shop.chat("two")
    assert shop.gather().dataset.manifest.hash != first.hash
    kept = (shop.settings.runs_folder / str(shop.run.run_id)).glob("data_manifest-*.json")
    assert [path.read_text() for path in kept] == [first.to_json()]


def test_turns_of_another_base_model_keep_their_texts_and_lose_their_numbers(shop: Shop) -> None:
    shop.chat("ours")
    shop.chat("other", base_hash="another model")
    shop.chat("unknown", base_hash="")
    found = token_ids(shop.gather())
    assert found == {"ours": (True, True), "other": (False, False), "unknown": (False, False)}


def test_must_pass_questions_are_never_learned_from(shop: Shop) -> None:
    shop.chat("one")
    inputs = shop.gather()
    examined = {prompt.context.question for prompt in inputs.must_pass.prompts}
    learned = {prompt.context.question for prompt in inputs.dataset.train.prompts}
    assert examined and learned and not examined & learned


def test_a_must_pass_question_without_passages_is_counted(shop: Shop) -> None:
    shop.chat("one")
    usual = shop.gather().must_pass
    shops = Knowledge.load(folder_of(shop.settings))
    strange = Question(id="strange", question="xyzzy?", must_pass=True, intent="")
    more = Knowledge(shops.shop, shops.passages, (*shops.questions, strange))
    found = shop.gather(knowledge=more).must_pass
    assert (found.prompts, found.unasked) == (usual.prompts, usual.unasked + 1)
    assert "1 must-pass questions find no passage and are not asked" in shop.told


def test_a_must_pass_question_that_finds_no_passage_now_is_not_learned_from_either(
    shop: Shop,
) -> None:
    """Its document may be back in the next round."""
    turn = shop.chat("one")
    shops = Knowledge.load(folder_of(shop.settings))
    reserved = Question(id="reserved", question=turn.message, must_pass=True, intent="")
    other = Passage(passage_id="p", title="Xyzzy", text="Plugh.", source="")
    without = Knowledge(shops.shop, (other,), (*shops.questions, reserved))
    inputs = shop.gather(knowledge=without)
    assert inputs.must_pass.prompts == ()
    assert token_ids(inputs) == {}
    assert inputs.dataset.manifest.dropped_by_reason() == {"a reserved question": 2}


def test_young_feedback_waits_for_the_next_round_and_is_not_lost(shop: Shop) -> None:
    learning = LearningSettings(feedback_age_s=0.5)
    shop.chat("old")
    shop.chat("young", given_at=shop.run.created_at - 0.1)
    time.sleep(0.6)  # a later attempt of the same run draws the line at the same place
    first = shop.gather(learning)
    assert set(token_ids(first)) == {"old"}
    assert first.dataset.manifest.dropped_by_reason() == {YOUNG: 2}
    assert f"not used: 2 {YOUNG}" in shop.told
    shop.next_run()
    assert set(token_ids(shop.gather(learning))) == {"old", "young"}
    assert shop.sources.feedback.counts()["thumb"]["pending"] == 0


def test_feedback_of_this_very_moment_is_used_by_default(shop: Shop) -> None:
    shop.chat("now", given_at=time.time() + 5)
    assert set(token_ids(shop.gather())) == {"now"}


def test_the_run_tells_who_weighs_what(shop: Shop) -> None:
    shop.chat("one")
    shop.chat("two")
    shop.gather()
    assert "weight: ann 80.0%, the largest visitor 10.0%" in shop.told


def test_who_is_believed_how_much_is_a_setting(shop: Shop) -> None:
    shop.chat("one")
    shop.chat("two")
    shop.gather(LearningSettings(visitor_weight=1.0, anonymous_share=1.0))
    # Two corrections of the expert's, a thumb of each visitor's: all weigh the same.
    assert "weight: ann 50.0%, the largest visitor 25.0%" in shop.told


def publish(shop: Shop, inputs: RoundInputs) -> int:
    """The round's version, made champion; its weights are of no matter here."""
    folder = shop.sources.adapters.stage(shop.run.run_id)
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    version = shop.sources.adapters.publish(
        folder,
        parent=inputs.parent,
        run_id=shop.run.run_id,
        data_manifest_hash=inputs.dataset.manifest.hash,
        metrics={},
        verdict=None,
        fence=lambda: None,
    ).version
    shop.sources.adapters.activate(version, by="test", reason="", force=True)
    return version


def test_who_is_left_out_is_not_in_what_the_round_trains_from(
    shop: Shop, redis: StoreClient
) -> None:
    shop.chat("one")
    clean = publish(shop, shop.gather())
    shop.next_run()
    bob = shop.chat("two", expert="bob")
    tainted = publish(shop, shop.gather())
    ExclusionStore(redis).exclude("rater", "bob", "eve", "a troll")
    shop.next_run()
    inputs = shop.gather()
    assert (inputs.champion, inputs.parent) == (tainted, clean)
    manifest = inputs.dataset.manifest
    assert manifest.without == ("rater bob",)
    assert manifest.why_dropped(f"correction:{bob.turn_id}:bob") == "left out: rater bob"
    assert "correction:one:ann" in manifest.corrections
    assert f"trained from version {clean}: {tainted} used what is left out, or build on it" in (
        shop.told
    )
    again = shop.gather()
    assert (again.work_folder, again.parent) == (inputs.work_folder, clean)

    # Lifted, they count again, and the champion is good enough to go on from.
    ExclusionStore(redis).lift("rater", "bob", "eve", "no troll")
    shop.next_run()
    inputs = shop.gather()
    assert inputs.parent == tainted
    assert f"correction:{bob.turn_id}:bob" in inputs.dataset.manifest.corrections


def test_the_version_without_them_is_gone_on_from(shop: Shop, redis: StoreClient) -> None:
    shop.chat("one")
    ExclusionStore(redis).exclude("rater", "ann", "eve", "a troll")
    publish(shop, shop.gather())  # created before the exclusion: it learned from ann
    shop.next_run()
    retrained = publish(shop, shop.gather())
    shop.next_run()
    inputs = shop.gather()
    assert (inputs.champion, inputs.parent) == (retrained, retrained)
