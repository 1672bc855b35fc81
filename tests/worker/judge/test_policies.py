"""worker.judge.policies: champion and candidate write side by side what each writes alone."""

from pathlib import Path

import pytest

from amends.backbone import Backbone
from amends.prompt import PromptRenderer
from tests.worker.hand_made import adapter
from tests.worker.small_round import SETTINGS, make_round
from worker.judge.paper import BASE, CANDIDATE, CHAMPION
from worker.judge.policies import Policies
from worker.reward.features import Features

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def policies(model: tuple[Backbone, PromptRenderer], tmp_path: Path) -> Policies:
    task = make_round(model, tmp_path)
    candidate, champion = (adapter(model[0], seed, size=0.1) for seed in (1, 2))
    return Policies.loaded(task.backbone, task.tokens, SETTINGS, candidate, champion, lambda: None)


def test_side_by_side_each_says_what_it_says_alone(
    policies: Policies, model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    prompts = make_round(model, tmp_path).dataset.train.prompts[:5]
    versions = (BASE, CHAMPION, CANDIDATE)
    together = policies.answers(versions, prompts, max_tokens=12)
    assert list(together) == list(versions) and len(set(together.values())) == 3
    for version in versions:
        assert [a.context for a in together[version]] == [p.context for p in prompts]
        assert policies.answers([version], prompts, 12) == {version: together[version]}
    assert policies.answers([CANDIDATE], prompts, 12, sitting=1)[CANDIDATE] != together[CANDIDATE]


def test_a_prompt_that_is_asked_again_is_not_read_again(
    policies: Policies, model: tuple[Backbone, PromptRenderer], tmp_path: Path
) -> None:
    prompts = make_round(model, tmp_path).dataset.train.prompts[:1]
    policies.answers([CANDIDATE], prompts, max_tokens=4)
    before = policies.engine.stats.reused_tokens.get(CANDIDATE, 0)
    policies.answers([CANDIDATE], prompts, max_tokens=4, sitting=1)
    assert policies.engine.stats.reused_tokens[CANDIDATE] > before


def test_equal_answers_are_read_once_and_have_equal_features(
    policies: Policies,
    monkeypatch: pytest.MonkeyPatch,
    model: tuple[Backbone, PromptRenderer],
    tmp_path: Path,
) -> None:
    prompts = make_round(model, tmp_path).dataset.train.prompts[:3]
    one, two, three = policies.answers([CANDIDATE], prompts, max_tokens=6)[CANDIDATE]
    read: list[int] = []
    features = Features(policies.backbone, policies.tokens, (1.0,), 8, lambda: None)
    pooled = Features.pooled
    monkeypatch.setattr(
        Features, "pooled", lambda self, items: (read.append(len(items)), pooled(self, items))[1]
    )
    found = features.of([two, one, two, three, one])
    assert sum(read) == 3
    alone = features.of([one, two, three])
    assert found.tolist() == alone[[1, 0, 1, 2, 0]].tolist()
