"""PPO on a tiny model with a reward whose best answer is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from amends.backbone import Backbone
from amends.base_model import load_causal_lm, load_tokenizer
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.lora import Lora
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tiny_model
from tests.worker.recorder import Recorder
from worker.checkpoints import Checkpoints
from worker.data.examples import Answer, Context, PromptExample
from worker.learning_settings import LearningSettings
from worker.ppo.actor_critic import ActorCritic, ValueHead
from worker.ppo.length import LengthLimit
from worker.ppo.rollout import against_others, final_scores, record
from worker.ppo.training import PpoParts, PpoState, roll_out, train_ppo
from worker.ppo.update import LearningFailed, Updater, make_optimizer, make_targets
from worker.reporting import Cancelled
from worker.sft import mean_nll
from worker.tokens import AnswerTokens, Tokens


def even_score(answers: Sequence[Answer]) -> torch.Tensor:
    """4 x the share of even token ids - 2: about 0 for a policy that knows nothing, 2 at best."""
    written = [a.token_ids or (1,) for a in answers]
    return torch.tensor([4 * sum(t % 2 == 0 for t in ids) / len(ids) - 2 for ids in written])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, PromptRenderer]:
    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    backbone = Backbone(load_causal_lm(folder, torch.float32), 256)
    return backbone, PromptRenderer(load_tokenizer(folder), 256, 24)


SETTINGS = LearningSettings(
    ppo_updates=4,
    episodes=8,
    samples_per_prompt=2,
    rollout_tokens=12,
    micro_batch=3,
    ppo_epochs=3,
    minibatches=2,
    learning_rate=3e-3,
    temperature=1.0,
    kl_target=50.0,
    kl_cap=1000.0,
    target_kl=1.0,
    missing_eos_penalty=0.0,
)
LONGER = SETTINGS.model_copy(  # enough to see what is learnt
    update={
        "ppo_updates": 15,
        "episodes": 32,
        "micro_batch": 16,
        "gae_lambda": 1.0,
        "learning_rate": 1e-2,
        "kl_coef": 0.0,
    }
)


def make_parts(
    model: tuple[Backbone, PromptRenderer],
    folder: Path,
    settings: LearningSettings = SETTINGS,
    report: Recorder | None = None,
) -> PpoParts:
    backbone, renderer = model
    prompts = [
        PromptExample(Context("", f"question {i}?", (), (), None), str(i), "", True)
        for i in range(5)
    ]
    return PpoParts(
        backbone,
        AnswerTokens(renderer, "s"),
        None,
        even_score,
        prompts,
        settings,
        Checkpoints(folder),
        report or Recorder(),
    )


def corrections() -> list[Tokens]:
    return [((5, 6, 7 + i), (40 + i, 41, 2)) for i in range(4)]


def fresh(model: tuple[Backbone, PromptRenderer]) -> Lora:
    return Lora.fresh(model[0].lora_shape(4, 8.0), seed=0)


def first_rollout(parts: PpoParts, start: Lora):  # type: ignore[no-untyped-def]
    backbone = parts.backbone
    policy = ActorCritic(backbone, start, ValueHead(backbone.hidden_size))
    state = PpoState(policy, make_optimizer(policy, parts.settings), None, start.clone())  # type: ignore[arg-type]
    limits = Limits(8, 8, max_positions=256)
    engine = Engine(backbone, start.shape, frozenset({2}), limits)
    episodes = roll_out(parts, state, engine, 1)
    scores = even_score(episodes.answers)
    rollout = record(episodes, policy, None, scores, parts.settings, 0, parts.report.beat)
    return policy, state.optimizer, rollout


def test_ratio_is_one_before_the_first_step(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    parts = make_parts(model, tmp_path)
    policy, optimizer, rollout = first_rollout(parts, fresh(model))
    targets = make_targets(rollout, 0.05, parts.settings)
    stats = Updater(policy, optimizer, parts.settings, lambda: None).update(rollout, targets, 0)
    assert stats.first_ratio == pytest.approx(1.0, abs=1e-6)
    assert stats.mean("ratio") != pytest.approx(1.0, abs=1e-6)  # later steps did move


def test_the_kl_of_an_untouched_policy_is_zero(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    _, _, rollout = first_rollout(make_parts(model, tmp_path), fresh(model))
    assert rollout.kl_per_response == pytest.approx(0, abs=1e-5)


def test_a_minibatch_holds_all_responses_to_its_prompts(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"samples_per_prompt": 4, "episodes": 16})
    _, _, rollout = first_rollout(make_parts(model, tmp_path, settings), fresh(model))
    sampled = [prompt for prompt, _ in rollout.episodes.tokens]
    dealt: dict[tuple[int, ...], set[int]] = {}
    counts: dict[tuple[int, ...], int] = {}
    for part in rollout.micro_batches:
        ids, start = part.batch.texts.token_ids.tolist(), 0
        for span in part.batch.texts.spans:
            prompt = tuple(ids[start : start + span.prompt])
            dealt.setdefault(prompt, set()).add(part.minibatch)
            counts[prompt] = counts.get(prompt, 0) + len(span.answers)
            start += len(span)
    assert counts == {prompt: 4 for prompt in sampled}
    assert all(len(minibatches) == 1 for minibatches in dealt.values())
    assert {minibatch for found in dealt.values() for minibatch in found} == {0, 1}


def test_micro_batches_of_any_size_give_the_same_step(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    results = []
    for size in (2, 8):
        settings = SETTINGS.model_copy(
            update={"micro_batch": size, "ppo_epochs": 1, "minibatches": 1}
        )
        parts = make_parts(model, tmp_path, settings)
        policy, optimizer, rollout = first_rollout(parts, fresh(model))
        targets = make_targets(rollout, 0.05, settings)
        Updater(policy, optimizer, settings, lambda: None).update(rollout, targets, 0)
        results.append(policy.lora.tensors)
    for name, tensor in results[0].items():
        torch.testing.assert_close(tensor, results[1][name], rtol=1e-3, atol=1e-5)


def test_the_policy_learns_what_the_score_rewards(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    report = Recorder()
    train_ppo(make_parts(model, tmp_path, LONGER, report), fresh(model))
    scores = [numbers["objective/scores"] for numbers in report.numbers]
    assert sum(scores[-3:]) / 3 > sum(scores[:3]) / 3 + 0.3, scores
    assert all(
        numbers["val/first_ratio"] == pytest.approx(1, abs=1e-5) for numbers in report.numbers
    )


def test_answers_grow_no_longer_where_tokens_cost(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    settings = LONGER.model_copy(update={"learning_rate": 3e-2})
    lengths, prices = [], []
    for limit in (LengthLimit(6.0, 1.25), None):
        report = Recorder()
        parts = make_parts(model, tmp_path / str(limit is None), settings, report)
        train_ppo(replace(parts, length=limit), fresh(model))
        lengths.append([numbers["response/length"] for numbers in report.numbers])
        prices.append([numbers["objective/token_price"] for numbers in report.numbers])
    limited, free = lengths
    assert limited[0] == free[0] > 11
    assert sum(limited[-3:]) / 3 < 7.5 < 11 < sum(free[-3:]) / 3, lengths  # 7.5 is the limit
    running = (6.0 + limited[0]) / 2  # half of what was, half of what is
    assert prices[0][0] == pytest.approx(3.0 * (running / 6 - 1) / 0.25 / 6)
    assert not any(prices[1])


def test_a_stopped_training_resumes_bit_for_bit(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    def parts(folder: str, report: Recorder | None = None) -> PpoParts:
        made = make_parts(model, tmp_path / folder, report=report)
        return replace(made, length=LengthLimit(8.0, 1.25))

    whole = train_ppo(parts("whole"), fresh(model))
    for stop in (1, 3):
        with pytest.raises(Cancelled):
            train_ppo(parts("cut", Recorder(stop - (stop == 3))), fresh(model))
    resumed = train_ppo(parts("cut"), fresh(model))
    for name, tensor in whole.policy.lora.tensors.items():
        assert torch.equal(tensor, resumed.policy.lora.tensors[name]), name
    assert (whole.kl.coef, whole.tokens) == (resumed.kl.coef, resumed.tokens)


def test_the_kl_cap_ends_the_round_early(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"kl_cap": 1e-4, "ppo_updates": 9})
    state = train_ppo(make_parts(model, tmp_path, settings), fresh(model))
    assert state.capped and state.done == 2 and state.last_kl > 1e-4
    for name, tensor in fresh(model).tensors.items():  # the update that went too far is taken back
        assert torch.equal(state.policy.lora.tensors[name], tensor), name


def test_scores_that_tell_nothing_apart_fail_loudly(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"kl_coef": 0.0})
    parts = replace(make_parts(model, tmp_path, settings), scorer=lambda a: torch.zeros(len(a)))
    with pytest.raises(LearningFailed, match="equal"):
        train_ppo(parts, fresh(model))


def test_a_cut_off_response_is_penalised_and_an_empty_one_gets_the_floor() -> None:
    context = Context("", "q", (), (), None)
    answers = [
        Answer(context, "fine", (5,), True),
        Answer(context, "cut", (5,), False),
        Answer(context, "", (2,), True),
    ]
    found = final_scores(torch.tensor([1.0, 1.0, 4.0]), answers, 0.75)
    assert found.tolist() == [1.0, 0.25, -5.0]


def test_a_score_is_taken_against_the_other_responses_to_its_prompt() -> None:
    scores = torch.tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])
    assert against_others(scores, 3).tolist() == [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]
    assert against_others(scores, 1).tolist() == scores.tolist()


def test_every_prompt_gets_its_samples_and_all_prompts_come_in_turn(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    parts = make_parts(model, tmp_path)
    _, _, rollout = first_rollout(parts, fresh(model))
    asked = [answer.context.question for answer in rollout.episodes.answers]
    assert asked[::2] == asked[1::2] and len(set(asked)) == 4
    assert rollout.episodes.tokens[0][1] != rollout.episodes.tokens[1][1]  # each its own draw
    seen = torch.cat([part.scores for part in rollout.micro_batches])
    ours = against_others(even_score(rollout.episodes.answers), 2)
    torch.testing.assert_close(seen.sort().values, ours.sort().values)


def test_episodes_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(ValidationError, match="multiple of samples_per_prompt, got 9 and 2"):
        LearningSettings(episodes=9, samples_per_prompt=2)


def test_the_value_head_starts_from_the_mean_return() -> None:
    torch.manual_seed(0)
    head, states = ValueHead(6), torch.randn(200, 6)
    returns = states[:, 0] * 0.5 + 3.0
    head.fit(states, returns, ridge=0.01)
    assert float((head(states) - returns).detach().abs().mean()) < 0.05
    head.fit(states, returns, ridge=1e6)
    torch.testing.assert_close(head(states).detach(), returns.mean().expand(200), rtol=0, atol=0.02)


def test_a_torn_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": torch.tensor([float(step)])})
    (tmp_path / "000003.pt").write_bytes((tmp_path / "000003.pt").read_bytes()[:100])
    kept = checkpoints.newest()
    assert kept is not None and kept[0] == 2 and kept[1]["x"].tolist() == [2.0]
    assert not (tmp_path / "000001.pt").exists()


def test_corrections_mixed_into_the_updates_become_likelier(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"ptx_coef": 1.0, "ptx_batch": 2})
    before = mean_nll(model[0], None, corrections())
    report = Recorder()
    parts = make_parts(model, tmp_path / "mixed", settings, report)
    mixed = train_ppo(replace(parts, corrections=corrections()), fresh(model))
    plain = train_ppo(make_parts(model, tmp_path / "plain"), fresh(model))
    after = mean_nll(model[0], mixed.policy.lora, corrections())
    assert after < 0.8 * before
    assert after < 0.9 * mean_nll(model[0], plain.policy.lora, corrections())
    assert report.numbers[-1]["loss/ptx"] < report.numbers[0]["loss/ptx"]


def test_steps_that_change_no_logprob_fail_loudly(
    model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    parts = make_parts(model, tmp_path)
    policy, _, rollout = first_rollout(parts, fresh(model))
    idle = torch.optim.SGD(policy.lora.parameters(), lr=0.0)
    targets = make_targets(rollout, 0.05, parts.settings)
    with pytest.raises(LearningFailed, match="log-probability"):
        Updater(policy, idle, parts.settings, lambda: None).update(rollout, targets, 0)
