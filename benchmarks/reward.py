"""make bench-reward: our reward model beside TRL's RewardTrainer on people's judgements, in hours.

Reads the folder that AMENDS_BENCH_DATA names and is skipped without it. What takes long (features,
adapters, the peer's scores) is kept in .bench-reward under a hash of all that it depends on, so a
run that was stopped goes on. CONFIGURATION was chosen on fold 0 alone, which is never measured on.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from judgements.folds import SEEDS, sides, union
from judgements.kept import Kept
from judgements.measures import (
    Array,
    Measured,
    area_under_curve,
    in_order,
    mean_over_folds,
    mean_with_interval,
    over_groups,
)
from judgements.peer import trl_installed, trl_scores
from judgements.people import DstcGroup, Reader, dstc9, hh_helpful, uss
from judgements.table import markdown
from judgements.trial import Configuration, Opinion, Trials

from amends.backbone import Backbone
from amends.base_model import base_hash, ensure_base_model, load_causal_lm, load_tokenizer
from amends.prompt import PromptRenderer
from amends.settings import Settings
from simulator.results import Results
from worker.data.examples import Examples
from worker.learning_settings import LearningSettings
from worker.reward.calibration import calibration_error
from worker.reward.examples import AnswerTable
from worker.reward.likelihood import RewardHeadSettings
from worker.reward.overlap import OVERLAP_FEATURES
from worker.reward.report import spearman
from worker.tokens import AnswerTokens

ROOT = Path(__file__).resolve().parents[1]
CONTEXT, RESPONSE = 512, 160
TRL = "trl 1.16.0"
CONFIGURATION = Configuration(
    head=RewardHeadSettings(members=4, min_pairs=0),
    learning=LearningSettings.model_construct(
        reward_epochs=1, reward_batch=32, reward_learning_rate=2e-4
    ),
    rank=16,
)
# The adapter's passes and TRL's see each train pair once, in batches of 16 pairs.
PEER = {"epochs": 1, "learning_rate": 2e-4, "batch": 16, "rank": 16}
EXTREMES = ((2.0, 4.0), (2.5, 3.5))  # mean ratings: unsatisfied at most, satisfied at least
HH_PAIRS = (400, 400)  # of a seed's train and test side: the peer reads 400 tokens a second
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "frozen": ("ours", {"features": "frozen"}),
    "adapter": ("ours", {"features": "adapter"}),
    "trl": (TRL, {}),
    "overlap": ("word overlap", {}),
}

COMPARED = (
    (("frozen", "pairs"), ("trl", "pairs")),
    (("adapter", "pairs"), ("trl", "pairs")),
    (("adapter", "pairs"), ("frozen", "pairs")),
    (("frozen", "all"), ("frozen", "pairs")),
    (("frozen", "all"), ("overlap", "none")),
)


@dataclass(frozen=True)
class Trial:
    """One seed of one data set: its sides, and opinions of all answers by (system, view)."""

    test: Examples
    opinions: dict[tuple[str, str], Opinion]


class Bench:
    def __init__(self, folder: Path, skipped: set[str], results: Results) -> None:
        settings = Settings()
        torch.set_num_threads(settings.threads)
        self._model = ensure_base_model(settings)
        self._base_hash, self._threads = base_hash(self._model), settings.threads
        tokenizer = load_tokenizer(self._model)
        self._folder, self._reader, self._skipped = folder, Reader(tokenizer), skipped
        self._tokens = AnswerTokens(PromptRenderer(tokenizer, CONTEXT, RESPONSE), "")
        self._backbone = Backbone(load_causal_lm(self._model, torch.bfloat16), CONTEXT)
        self._kept = Kept(ROOT / ".bench-reward")
        self._results = results

    def dstc9(self, group: DstcGroup) -> None:
        """The adapter and the peer take minutes a seed: on one split."""
        name = {"dataset": "dstc9", "groups": group}
        examples = dstc9(self._folder, self._reader, group)
        trials = self._trials(examples)
        found = []
        for seed in SEEDS:
            train, test = sides(examples, seed)
            slow = {"adapter", "trl"} if group == "question" else set()
            opinions = self._pair_opinions(f"dstc9 by {group}", trials, train, test, seed, slow)
            _say(f"dstc9 by {group}", seed, "ours, all views")
            opinions["frozen", "all"] = trials.frozen(train)
            overlap = trials.overlap[:, list(OVERLAP_FEATURES).index("f1_best")].numpy()
            opinions["overlap", "none"] = Opinion(overlap, overlap)
            found.append(Trial(test, opinions))
        self._report_pairs(name, trials.table, found)
        errors = [_thumb_error(trials.table, trial) for trial in found]
        setting = {**name, "view": "thumbs", "fitted_on": "all", "seeds": len(SEEDS)}
        spread = (statistics.mean(errors), min(errors), max(errors))
        self._add("calibration_error", spread, {**setting, "interval": "of the seeds"})

    def hh_helpful(self) -> None:
        examples = hh_helpful(self._folder, self._reader)
        parts = [sides(examples, seed, HH_PAIRS) for seed in SEEDS]
        trials = self._trials(union(parts))
        found = [
            Trial(test, self._pair_opinions("hh_helpful", trials, train, test, seed, {"trl"}))
            for seed, (train, test) in zip(SEEDS, parts, strict=True)
        ]
        self._report_pairs({"dataset": "hh_helpful"}, trials.table, found)

    def uss(self) -> None:
        examples = uss(self._folder, self._reader)
        trials = self._trials(examples)
        folds, truths, scores, groups = [], [], [], []
        for seed in SEEDS:
            train, test = sides(examples, seed)
            _say("uss", seed, "ours, ratings")
            score = trials.frozen(train).score
            by_answer = _mean_ratings(trials.table, test)
            rows = list(by_answer)
            folds.append(np.full(len(rows), seed))
            scores.append(score[rows])
            truths.append(np.array([by_answer[row][0] for row in rows]))
            groups += [by_answer[row][1] for row in rows]
        fold, score, truth = (np.concatenate(part) for part in (folds, scores, truths))

        def rank_correlation(items: Any) -> float:
            return mean_over_folds(
                fold[items], lambda s: spearman(score[items][s], truth[items][s]) or 0.0
            )

        setting = {"dataset": "uss", "view": "ratings", "features": "frozen", "seeds": len(SEEDS)}
        self._add("spearman", over_groups(rank_correlation, groups), setting)
        for unsatisfied, satisfied in EXTREMES:

            def area(
                items: Any, unsatisfied: float = unsatisfied, satisfied: float = satisfied
            ) -> float:
                rated, worry = truth[items], -score[items]
                return mean_over_folds(
                    fold[items],
                    lambda s: area_under_curve(
                        worry[s][rated[s] <= unsatisfied], worry[s][rated[s] >= satisfied]
                    ),
                )

            extremes = {"unsatisfied_to": unsatisfied, "satisfied_from": satisfied}
            found = over_groups(area, groups)
            self._add("auc_unsatisfied", found, {**setting, **extremes})

    def _trials(self, examples: Examples) -> Trials:
        return Trials(
            examples, self._backbone, self._tokens, CONFIGURATION, self._kept, self._base_hash
        )

    def _pair_opinions(
        self,
        name: str,
        trials: Trials,
        train: Examples,
        test: Examples,
        seed: int,
        slow: set[str],
    ) -> dict[tuple[str, str], Opinion]:
        """Of heads on frozen features, and of those in `slow` that were not skipped."""
        train, test = Examples(pairs=train.pairs), Examples(pairs=test.pairs)
        slow = slow - self._skipped
        _say(name, seed, "ours, pairs")
        opinions = {("frozen", "pairs"): trials.frozen(train)}
        if "adapter" in slow:
            _say(name, seed, "ours with an adapter, pairs")
            opinions["adapter", "pairs"] = trials.adapted(train, test, seed)
        if "trl" in slow:
            _say(name, seed, f"{TRL}, pairs")
            task = {"model": str(self._model), "seed": seed, "threads": self._threads, **PEER}
            try:
                scores = trl_scores(train, test, trials.table, trials.items, self._kept, task)
                opinions["trl", "pairs"] = Opinion(scores, scores)
            except RuntimeError as error:
                self._skipped.add("trl")
                _skip(self._results, str(error))
        return opinions

    def _report_pairs(self, name: dict[str, str], table: AnswerTable, trials: list[Trial]) -> None:
        """Mean accuracy of each opinion over the seeds, and what is gained over another."""
        groups = [pair.customer for trial in trials for pair in trial.test.pairs]
        fold = np.concatenate(
            [np.full(len(t.test.pairs), seed) for seed, t in zip(SEEDS, trials, strict=True)]
        )
        outcomes: dict[tuple[str, str], Array] = {}
        for key in sorted(set.intersection(*(set(t.opinions) for t in trials))):
            outcomes[key] = np.concatenate(
                [_in_order(table, t.test, t.opinions[key].score) for t in trials]
            )
        for (system, view), values in outcomes.items():
            label, features = SYSTEMS[system]
            setting = {**name, "view": view, **features}
            setting |= {"seeds": len(SEEDS), "pairs": len(groups)}
            self._add("pair_accuracy", mean_with_interval(values, fold, groups), setting, label)
        for of, over in COMPARED:
            if of in outcomes and over in outcomes:
                gained = mean_with_interval(outcomes[of] - outcomes[over], fold, groups)
                label, features = SYSTEMS[of[0]]
                other = ", ".join((SYSTEMS[over[0]][0], *SYSTEMS[over[0]][1].values(), over[1]))
                setting = {**name, "view": of[1], **features, "over": other}
                self._add("pair_accuracy_gain", gained, setting, label)

    def _add(
        self, metric: str, found: Measured, setting: dict[str, Any], system: str = "ours"
    ) -> None:
        value, low, high = found
        self._results.add(metric, value, "", setting, low, high, system=system)
        print(f"{metric} {system} {setting}: {value:.3f} [{low:.3f}, {high:.3f}]", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-trl", action="store_true", help="ours alone")
    parser.add_argument("--without-adapter", action="store_true", help="frozen features alone")
    chosen = parser.parse_args()
    folder = os.environ.get("AMENDS_BENCH_DATA")
    if not folder:
        print(
            "skipped: AMENDS_BENCH_DATA names no folder with dstc9_faq, hh_rlhf, uss_satisfaction"
        )
        return
    results = Results(ROOT / "benchmarks" / "results" / "bench-reward.json")
    skipped = {"adapter"} if chosen.without_adapter else set()
    if chosen.without_trl or not trl_installed():
        skipped.add("trl")
        why = "not asked for" if chosen.without_trl else "its environment could not be made"
        _skip(results, why)
    bench = Bench(Path(folder), skipped, results)
    bench.dstc9("question")
    bench.dstc9("passage")
    bench.uss()
    bench.hh_helpful()
    print(markdown(results.rows))


def _skip(results: Results, why: str) -> None:
    results.add("pair_accuracy", None, "", {"reason": f"{TRL}: {why}"}, system=TRL)


def _in_order(table: AnswerTable, test: Examples, scores: Array) -> Array:
    chosen, rejected = (
        scores[table.rows([getattr(pair, side) for pair in test.pairs]).numpy()]
        for side in ("chosen", "rejected")
    )
    return in_order(chosen, rejected)


def _thumb_error(table: AnswerTable, trial: Trial) -> float:
    rows = table.rows([thumb.answer for thumb in trial.test.thumbs]).numpy()
    expected = trial.opinions["frozen", "all"].thumb_up[rows].tolist()
    error = calibration_error(expected, [thumb.value > 0 for thumb in trial.test.thumbs])
    assert error is not None, "a test fold has thousands of thumbs"
    return error


def _mean_ratings(table: AnswerTable, test: Examples) -> dict[int, tuple[float, str]]:
    """By row of the answer: the mean of its raters, and its dialogue."""
    given: dict[int, list[int]] = defaultdict(list)
    dialogue: dict[int, str] = {}
    rows = table.rows([rating.answers[0] for rating in test.ratings]).tolist()
    for row, rating in zip(rows, test.ratings, strict=True):
        given[row].append(rating.value)
        dialogue[row] = rating.customer
    return {row: (statistics.mean(values), dialogue[row]) for row, values in given.items()}


def _say(name: str, seed: int, what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}, seed {seed}: {what}", flush=True)


if __name__ == "__main__":
    main()
