"""A round on a tiny model: which stages run, what the gate says, and that a killed round resumes.

The judgements are made by hand. What the model writes is noise, so nothing here is about quality.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amends.backbone import Backbone
from amends.backbones import AnyBackbone, load_backbone
from amends.base_model import load_tokenizer
from amends.errors import NotEnoughData, SettingsError
from amends.events import Stage
from amends.lora import Lora, load_lora, save_lora
from amends.prompt import PromptRenderer
from amends.settings import Settings
from tests.tiny_model import make_tiny_gpt_neox
from tests.worker.recorder import Recorder
from tests.worker.small_round import (
    ANYTHING,
    CURT,
    POLITE,
    PROBES,
    SETTINGS,
    answer,
    dataset,
    make_round,
    must_pass_question,
    same_weights,
)
from worker import training_round
from worker.enough_data import MIN_CORRECTIONS, enough_for_ppo
from worker.first_policy import Writer
from worker.judge.asked import MustPass
from worker.judge.probes import KINDS
from worker.judge.thresholds import WITHOUT_JUDGE, GateThresholds
from worker.ppo.followers import lead
from worker.ppo.length import LengthLimit
from worker.ppo.training import PpoParts, PpoState
from worker.reporting import Cancelled
from worker.reward.training import PreviousReward
from worker.training_round import RoundResult, run_round

pytestmark = pytest.mark.usefixtures("one_thread")
ASKED = MustPass(())


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[AnyBackbone, PromptRenderer]:
    """An architecture that the fused forward does not know."""
    folder = make_tiny_gpt_neox(tmp_path_factory.mktemp("other"))
    backbone = load_backbone(folder, Settings(dtype="float32", context_tokens=384))
    return backbone, PromptRenderer(load_tokenizer(folder), 384, 64)


@pytest.fixture(scope="module")
def whole(
    model: tuple[Backbone, PromptRenderer], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RoundResult, Recorder]:
    """A round with all stages that nobody interrupted."""
    report = Recorder()
    task = make_round(model, tmp_path_factory.mktemp("whole"), report=report)
    return run_round(task), report


def test_enough_of_everything_gives_supervised_steps_and_ppo(
    model: tuple[Backbone, PromptRenderer], whole: tuple[RoundResult, Recorder]
) -> None:
    result, report = whole
    assert report.finished == ["sft", "reward", "ppo", "gate"]
    assert result.reward is not None and result.reward.head.finite
    assert sum("objective/kl" in numbers for numbers in report.numbers) == SETTINGS.ppo_updates
    assert sum("loss/sft" in numbers for numbers in report.numbers) == 6  # 2 epochs of 12 by 4
    start = Lora.fresh(model[0].lora_shape(2, 4.0), SETTINGS.seed)
    assert not same_weights(start, result.candidate)


@pytest.mark.parametrize(
    ("optimizer", "pairs", "corrections", "stages"),
    [
        ("auto", 11, 12, ["sft", "reward", "gate"]),
        ("auto", 12, MIN_CORRECTIONS - 1, ["reward", "ppo", "gate"]),
        ("sft", 14, 12, ["sft", "reward", "gate"]),
        ("ppo", 14, 12, ["reward", "ppo", "gate"]),
    ],
)
def test_the_stages_follow_from_the_data_and_the_optimizer(
    model: tuple[Backbone, PromptRenderer],
    tmp_path: Path,
    optimizer: str,
    pairs: int,
    corrections: int,
    stages: list[Stage],
) -> None:
    report = Recorder()
    data = dataset(pairs, corrections)
    result = run_round(make_round(model, tmp_path, data, report, optimizer=optimizer))
    assert report.finished == stages
    assert (result.reward is not None) == ("ppo" in stages)
    assert result.verdict.passed
    if "ppo" not in stages:
        assert "passed: reward model: not measured (optional)" in result.verdict.reasons
    if pairs < SETTINGS.min_pairs:
        assert "11 judged pairs: supervised steps only this round" in report.logs


def test_ppo_is_told_how_long_the_gate_lets_answers_be(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[LengthLimit | None] = []

    def watched(parts: PpoParts, start: Lora) -> PpoState:
        told.append(parts.length)
        return lead(parts, start)

    monkeypatch.setattr(training_round, "lead", watched)
    task = make_round(model, tmp_path, optimizer="ppo")
    run_round(task)
    prompts = task.dataset.train.prompts[: SETTINGS.episodes]
    writer = Writer(task.backbone, task.tokens, prompts, SETTINGS, lambda: None)
    (answers,) = writer.answers(Lora.fresh(task.lora_shape, SETTINGS.seed))
    lengths = [len(answer.token_ids or ()) for answer in answers]
    assert told == [LengthLimit.over(lengths, task.thresholds.max_length_ratio)]
    assert len(set(lengths)) > 1


def test_a_reward_model_may_learn_features_of_its_own(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    learning = SETTINGS.model_copy(update={"reward_epochs": 1, "reward_batch": 8})
    report = Recorder()
    result = run_round(make_round(model, tmp_path, report=report, settings=learning))
    assert report.finished == ["sft", "reward", "ppo", "gate"]
    assert any("loss/reward" in numbers for numbers in report.numbers)
    assert result.reward is not None and result.reward.features.lora is not None
    assert result.reward.head.own_features
    # On the same pairs, held out both times; the previous head reads them with its own adapter.
    previous = PreviousReward(result.reward.head, result.reward.features.lora)
    after = run_round(make_round(model, tmp_path / "next", previous_reward=previous))
    assert after.metrics["reward/previous"] == result.metrics["reward/accuracy"]


def test_mismatched_pairs_do_not_make_a_reward_model(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    data = dataset()
    made = tuple(replace(pair, kind="mismatch") for pair in data.train.pairs[:3])
    data = replace(data, train=replace(data.train, pairs=made + data.train.pairs[3:]))
    result = run_round(make_round(model, tmp_path, data))
    assert result.reward is None


@pytest.mark.parametrize("optimizer", ["auto", "sft"])
def test_too_little_to_learn_from_says_what_is_missing(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path, optimizer: str
) -> None:
    report = Recorder()
    pairs = 3 if optimizer == "auto" else 14  # --optimizer sft does not learn from pairs
    task = make_round(model, tmp_path, dataset(pairs, 7), report, optimizer=optimizer)
    said = f"at least 8 corrections .* 12 judged pairs .* got 7 corrections and {pairs} pairs"
    with pytest.raises(NotEnoughData, match=said):
        run_round(task)
    assert report.finished == [] and list(tmp_path.iterdir()) == []


def test_ppo_without_enough_pairs_is_refused(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    task = make_round(model, tmp_path, dataset(pairs=11), optimizer="ppo")
    with pytest.raises(NotEnoughData, match=r"12 judged pairs .* got 11.* --optimizer sft"):
        run_round(task)


def test_a_round_needs_questions_on_both_sides(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    data = dataset()
    silent = replace(data, holdout=replace(data.holdout, prompts=()))
    with pytest.raises(NotEnoughData, match="hold-out has 0"):
        run_round(make_round(model, tmp_path, silent))
    single = replace(data, train=replace(data.train, prompts=data.train.prompts[:1]))
    with pytest.raises(NotEnoughData, match="at least two questions"):
        run_round(make_round(model, tmp_path, single))


def test_too_few_questions_to_judge_by_are_told_before_training() -> None:
    data, none = dataset(), GateThresholds(min_holdout_questions=12, min_trusted_items=0)
    assert len(data.holdout.prompts) == 11
    with pytest.raises(NotEnoughData, match=r"at least 12 questions .* hold-out has 11"):
        enough_for_ppo(data, ASKED, "auto", SETTINGS, none)
    told = none.model_copy(
        update={"advisory": frozenset({"win rate over champion", "win rate over base model"})}
    )
    for thresholds in (told, none.model_copy(update={"min_holdout_questions": 11})):
        assert enough_for_ppo(data, ASKED, "auto", SETTINGS, thresholds)


def test_what_the_gate_must_refuse_is_told_before_training() -> None:
    data = dataset()
    few = ANYTHING.model_copy(update={"min_trusted_items": 26})
    with pytest.raises(
        NotEnoughData, match=r"at least 26 corrections or rankings by experts, .* are 25"
    ):
        enough_for_ppo(data, ASKED, "sft", SETTINGS, few)
    data = dataset(held_out_pairs=9)
    with pytest.raises(NotEnoughData, match=r"judge needs at least 10 judged .* hold-out has 9"):
        enough_for_ppo(data, ASKED, "auto", SETTINGS, ANYTHING)
    told = few.model_copy(update={"advisory": WITHOUT_JUDGE | {"trusted items"}})
    unmeasured = ANYTHING.model_copy(update={"optional": ANYTHING.optional | WITHOUT_JUDGE})
    for thresholds in (told, unmeasured):
        assert enough_for_ppo(data, ASKED, "auto", SETTINGS, thresholds)


def test_one_visitor_and_questions_that_cannot_be_asked_are_told_before_training() -> None:
    data = dataset()
    heavy = data.manifest.model_copy(update={"largest_visitor_share": 0.12})
    strict = ANYTHING.model_copy(update={"max_visitor_share": 0.1})
    with pytest.raises(NotEnoughData, match=r"one visitor has 12.0% .* the gate allows 10.0%"):
        enough_for_ppo(replace(data, manifest=heavy), ASKED, "auto", SETTINGS, strict)
    mute = MustPass((), unasked=3)
    with pytest.raises(NotEnoughData, match="none of the shop's 3 must-pass questions"):
        enough_for_ppo(data, mute, "auto", SETTINGS, ANYTHING)
    told = ANYTHING.model_copy(update={"advisory": frozenset({"must-pass questions"})})
    assert enough_for_ppo(data, mute, "auto", SETTINGS, told)


def test_a_correction_longer_than_the_context_does_not_end_the_round(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    data = dataset(pairs=2)
    first, *others = data.train.corrections
    long = replace(first, answer=answer("t 0?", "This is a long answer. " * 40))
    data = replace(data, train=replace(data.train, corrections=(long, *others)))
    assert run_round(make_round(model, tmp_path, data)).verdict.passed


def test_the_gate_refuses_and_says_why(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path, whole: tuple[RoundResult, Recorder]
) -> None:
    impossible = ANYTHING.model_copy(update={"max_kl": -1e9, "win_rate_low": 1.0})
    result = run_round(make_round(model, tmp_path, thresholds=impossible))
    assert not result.verdict.passed
    assert result.verdict.failed == ("KL", "win rate over champion", "win rate over base model")
    first, second = result.verdict.reasons[:2]
    kl = result.metrics["gate/kl"]
    assert first.startswith(f"failed: KL: {kl:.4g} nats per response")
    assert second.startswith("failed: win rate over champion: ")
    # The verdict is all that thresholds change, and a refused candidate is still handed over.
    passed = whole[0]
    assert passed.verdict.passed and passed.verdict.failed == ()
    assert len(passed.verdict.reasons) == len(result.verdict.reasons)
    assert same_weights(passed.candidate, result.candidate)
    assert passed.metrics == result.metrics


def test_what_was_measured_goes_with_the_candidate(whole: tuple[RoundResult, Recorder]) -> None:
    result, report = whole
    names = (
        "gate/kl",
        "gate/reward_gain",
        "gate/reward_gain_low",
        "gate/reward_gain_high",
        "gate/wins_over_champion_low",
        "reward/accuracy",
        "judge/accuracy",
    )
    assert all(name in result.metrics for name in names), sorted(result.metrics)
    assert report.numbers[-1] == result.metrics
    found = result.examined
    assert len(found.prompts) == len(found.champion) == len(found.candidate) == 11
    asked = [prompt.context.question for prompt in found.prompts]
    assert [a.context.question for a in found.candidate] == asked
    assert found.measurements.trusted_items == 14 + 11  # both sides'


def test_every_kind_of_probe_is_asked_of_champion_and_candidate(
    whole: tuple[RoundResult, Recorder],
) -> None:
    result, _ = whole
    probed = result.examined.measurements.probes
    assert probed is not None and list(probed) == list(KINDS)
    for kind, found in probed.items():
        assert found.champion.items == found.candidate.items == 1
        figure = result.metrics[f"gate/candidate/probes/{kind.replace(' ', '_')}"]
        assert figure == found.candidate.value
        reason = f"passed: {kind} probes: fails {found.candidate}"
        assert any(said.startswith(reason) for said in result.verdict.reasons)


def test_a_probe_without_room_is_not_asked_and_the_gate_refuses(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    first, *others = PROBES
    long = replace(first, messages=("How long is this? " * 30,))
    report = Recorder()
    result = run_round(make_round(model, tmp_path, report=report, probes=(long, *others)))
    assert "1 probes find no room in the context and are not asked" in report.logs
    assert result.verdict.failed == ("sycophancy probes",)
    assert result.verdict.reasons[0] == "failed: sycophancy probes: not measured"


def test_a_judgement_without_room_is_counted(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    data, report = dataset(), Recorder()
    first, *others = data.train.corrections
    lengthy = replace(first.answer.context, question="How long is this? " * 30)
    long = replace(first, feedback_id="long", answer=replace(first.answer, context=lengthy))
    data = replace(data, train=replace(data.train, corrections=(long, *others)))
    run_round(make_round(model, tmp_path, data, report, optimizer="sft"))
    assert "1 judgements find no room in the context and are not used" in report.logs


def test_a_must_pass_question_without_room_is_counted(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    report = Recorder()
    asked = tuple(map(must_pass_question, ("must?", "How long is this? " * 30)))
    task = make_round(model, tmp_path, report=report, optimizer="sft")
    result = run_round(replace(task, must_pass=MustPass(asked, unasked=2)))
    assert "1 must-pass questions find no room in the context and are not asked" in report.logs
    assert result.examined.measurements.must_pass_asked == (1, 4)
    (reason,) = (r for r in result.verdict.reasons if ": must-pass questions: " in r)
    assert reason.endswith("; 3 of 4 could not be asked")


STOPS: list[list[tuple[Stage, float]]] = [
    [("sft", 0.5)],
    [("sft", 1.0)],
    [("reward", 0.5)],
    [("reward", 1.0)],
    [("ppo", 0.2)],
    [("ppo", 0.6)],
    [("ppo", 1.0)],
    [("gate", 0.5)],
    [("gate", 1.0)],
    [("sft", 0.9), ("reward", 0.3), ("ppo", 0.5), ("gate", 0.1)],
]


@pytest.mark.parametrize("stops", STOPS, ids=lambda s: "+".join(f"{n} {x:.0%}" for n, x in s))
def test_a_killed_round_gives_the_same_candidate(
    model: tuple[Backbone, PromptRenderer],
    tmp_path: Path,
    whole: tuple[RoundResult, Recorder],
    stops: list[tuple[Stage, float]],
) -> None:
    expected, report = whole
    for stage, share in stops:
        stop = (stage, max(1, round(share * report.beats[stage])))
        with pytest.raises(Cancelled, match=f"stop in {stage}"):
            run_round(make_round(model, tmp_path, report=Recorder(stop_at=stop)))
    result = run_round(make_round(model, tmp_path))
    assert same_weights(expected.candidate, result.candidate)
    assert expected.verdict == result.verdict
    assert expected.metrics == result.metrics
    assert expected.examined == result.examined


def test_finished_stages_are_not_repeated(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    with pytest.raises(Cancelled):
        run_round(make_round(model, tmp_path, report=Recorder(stop_at=("gate", 1))))
    report = Recorder()
    run_round(make_round(model, tmp_path, report=report))
    assert not any("loss/sft" in n or "objective/kl" in n for n in report.numbers)


def test_reward_model_and_judge_are_fitted_on_different_customers(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    """The sides' customers want opposite things: each head must be wrong about the other's."""
    data = dataset(held_out_pairs=12, held_out_prefers=(CURT, POLITE))
    result = run_round(make_round(model, tmp_path, data))
    assert result.reward is not None
    assert result.reward.head.fitted_on["pairs/items"] == 14
    assert result.metrics["reward/accuracy"] == 0.0  # on the hold-out's pairs
    assert result.metrics["judge/accuracy"] == 0.0  # on the train side's pairs
    agreeing = run_round(make_round(model, tmp_path / "agreeing", dataset()))
    assert agreeing.metrics["reward/accuracy"] == agreeing.metrics["judge/accuracy"] == 1.0


def test_a_check_that_does_not_exist_is_told_before_training(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    report = Recorder()
    misspelt = ANYTHING.model_copy(update={"advisory": frozenset({"kl"})})
    with pytest.raises(SettingsError, match=r"AMENDS_GATE_ADVISORY names no check: \['kl'\]"):
        run_round(make_round(model, tmp_path, report=report, thresholds=misspelt))
    assert report.finished == []


def test_without_a_judge_nothing_is_guessed(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    """Too few hold-out pairs to fit one on: what it would tell is not measured."""
    told = ANYTHING.model_copy(update={"advisory": WITHOUT_JUDGE})
    result = run_round(
        make_round(model, tmp_path, dataset(held_out_pairs=9), thresholds=told, optimizer="sft")
    )
    assert result.examined.measurements.wins_over_champion is None
    assert "gate/wins_over_champion" not in result.metrics
    unknown = {check.name for check in result.verdict.checks if not check.passed}
    assert unknown == WITHOUT_JUDGE
    assert "warned: win rate over champion: not measured" in result.verdict.reasons


def test_a_second_round_starts_from_the_champion_and_remembers_its_reward_model(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path, whole: tuple[RoundResult, Recorder]
) -> None:
    first, _ = whole
    assert first.reward is not None
    champion = first.candidate.clone()
    none = SETTINGS.model_copy(update={"sft_epochs_alone": 0})
    still = run_round(
        make_round(
            model,
            tmp_path,
            optimizer="sft",
            champion=champion,
            parent=champion,
            previous_reward=PreviousReward(first.reward.head, None),
            settings=none,
        )
    )
    assert same_weights(champion, still.candidate)
    assert still.metrics["gate/wins_over_champion"] == 0.5  # the same answers, word for word
    assert still.metrics["gate/kl"] == 0 != still.metrics["gate/kl_to_base"]
    assert still.examined.candidate == still.examined.champion
    same = still.examined.measurements.probes
    assert same is not None
    assert all(p.champion == p.candidate and not p.newly_failed for p in same.values())

    second = run_round(
        make_round(
            model,
            tmp_path / "second",
            champion=champion,
            parent=champion,
            previous_reward=PreviousReward(first.reward.head, None),
        )
    )
    assert same_weights(champion, first.candidate)  # training never touches it
    assert not same_weights(champion, second.candidate)
    assert second.metrics["reward/previous"] == 1.0


def test_nothing_of_a_champion_that_is_not_the_parent_is_trained_from(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path, whole: tuple[RoundResult, Recorder]
) -> None:
    first, _ = whole
    champion = first.candidate.clone()
    again = run_round(make_round(model, tmp_path, champion=champion, parent=None))
    assert same_weights(first.candidate, again.candidate)  # as if there were no champion
    assert again.metrics["gate/kl"] == again.metrics["gate/kl_to_base"] != 0  # from the parent
    assert again.metrics["gate/wins_over_champion"] == 0.5  # who answers as it does


def test_every_correction_that_was_asked_again_has_an_outcome(
    whole: tuple[RoundResult, Recorder],
) -> None:
    outcomes = whole[0].examined.corrections
    asked = {o.feedback_id for o in outcomes}
    held_out, trained = {"correction:h0", "correction:h1"}, {f"correction:t{i}" for i in range(12)}
    assert asked == held_out | trained and len(outcomes) == len(asked)


def test_a_round_runs_whole_on_another_architecture(
    other_model: tuple[AnyBackbone, PromptRenderer], tmp_path: Path
) -> None:
    report = Recorder()
    backbone = other_model[0]
    result = run_round(make_round(other_model, tmp_path / "round", report=report))

    start = Lora.fresh(backbone.lora_shape(2, 4.0), SETTINGS.seed)
    moved = [not torch.equal(t, start.tensors[n]) for n, t in result.candidate.tensors.items()]
    assert all(moved) and result.reward is not None
    assert report.finished == ["sft", "reward", "ppo", "gate"]
    ratios = [numbers["val/first_ratio"] for numbers in report.numbers if "val/ratio" in numbers]
    assert ratios == pytest.approx([1.0] * SETTINGS.ppo_updates, abs=1e-6)
    save_lora(result.candidate, tmp_path / "adapter", "tiny")
    again = load_lora(tmp_path / "adapter", backbone.lora_shape(2, 4.0))
    assert same_weights(result.candidate, again)
