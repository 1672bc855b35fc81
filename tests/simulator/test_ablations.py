"""An ablation switches off what its name says, by settings that exist."""

import os

import pytest
from pydantic_settings import BaseSettings

from simulator.proof.ablations import KINDS, Ablation, ablations
from worker.judge.checks import CHECKS
from worker.judge.gate import judge_candidate
from worker.judge.measurements import Measurements
from worker.judge.thresholds import GateThresholds
from worker.learning_settings import LearningSettings
from worker.settings import WorkerSettings

ALL = {ablation.name: ablation for ablation in ablations(CHECKS)}
SETTINGS: tuple[type[BaseSettings], ...] = (LearningSettings, GateThresholds, WorkerSettings)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("AMENDS_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def under(ablation: Ablation, environment: pytest.MonkeyPatch) -> LearningSettings:
    for name, value in ablation.environment.items():
        environment.setenv(name, value)
    return LearningSettings()


@pytest.mark.parametrize("ablation", ALL.values(), ids=list(ALL))
def test_every_variable_is_a_setting(ablation: Ablation, environment: pytest.MonkeyPatch) -> None:
    known = {
        f"{settings.model_config['env_prefix']}{name}".upper()
        for settings in SETTINGS
        for name in settings.model_fields
    }
    assert set(ablation.environment) <= known
    under(ablation, environment)
    GateThresholds()


def test_the_whole_loop_differs_in_a_brigades_window_alone(
    environment: pytest.MonkeyPatch,
) -> None:
    usual = LearningSettings()
    whole = under(ALL["none"], environment)
    changed = {name for name, value in usual if value != getattr(whole, name)}
    assert changed == {"brigade_window_s"}
    assert GateThresholds() == GateThresholds.model_construct()
    assert ALL["none"].rounds == 4 and ALL["none"].gives == KINDS


def test_each_defence_is_off(environment: pytest.MonkeyPatch) -> None:
    with environment.context() as patch:
        found = under(ALL["no_kl"], patch)
        assert found.kl_coef == 0 and min(found.kl_cap, found.target_kl) > 1e6
        assert GateThresholds().advisory == {"KL", "drift from the base model"}
    with environment.context() as patch:
        assert under(ALL["single_rm"], patch).reward_members == 1
    with environment.context() as patch:
        assert under(ALL["no_rater_terms"], patch).rater_std < 0.01
    with environment.context() as patch:
        found = under(ALL["no_trust"], patch)
        assert found.visitor_weight == found.anonymous_share == 1 and found.visitor_items > 1e5
        assert min(found.scalar_share, found.burst_items, found.brigade_visitors) > 1e5
    assert ALL["thumbs_only"].gives == ("thumb",)
    assert (ALL["sft_only"].optimizer, ALL["ppo_only"].optimizer) == ("sft", "ppo")


def test_without_the_gate_nothing_is_refused(environment: pytest.MonkeyPatch) -> None:
    under(ALL["no_gate"], environment)
    verdict = judge_candidate(Measurements(), GateThresholds())
    assert verdict.passed and not all(check.passed for check in verdict.checks)
    assert verdict.reasons[0].startswith("warned: ")
