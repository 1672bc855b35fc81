"""worker.reward.report on a hold-out with a known truth."""

from dataclasses import replace

import pytest
import torch

from tests.worker.reward.simulated import simulate
from worker.data.examples import Examples
from worker.reward.examples import AnswerTable, make_views
from worker.reward.report import Previous, report_reward_head, spearman
from worker.reward.reward_head import fit_reward_head


def test_a_fitted_head_beats_a_coin_the_baselines_and_a_weaker_one() -> None:
    data = simulate(pairs=400, thumbs=300, ratings=60)
    every = data.examples
    train = Examples(every.pairs[:250], every.thumbs[:200], every.ratings[:30])
    holdout = Examples(every.pairs[250:], every.thumbs[200:], every.ratings[30:])
    head = fit_reward_head(data.lm, data.overlap, make_views(train, data.table))
    weak = Previous(torch.randn(len(data.table.answers)).double(), frozenset(), frozenset())
    report = report_reward_head(head, holdout, data.table, data.lm, data.overlap, weak)
    assert report.accuracy is not None and report.accuracy.low > 0.7
    assert report.accuracy.items == 150 and report.accuracy.clusters == 100
    assert report.word_overlap is not None and report.word_overlap.value < report.accuracy.value
    assert report.previous is not None and report.previous.value < report.accuracy.value
    assert report.thumb_accuracy is not None and report.thumb_accuracy.low > 0.5
    assert report.thumb_calibration_error is not None and report.thumb_calibration_error < 0.2
    assert report.rating_correlation is not None and report.rating_correlation > 0.3
    assert report.rankings is None and report.mismatches is None


def test_the_previous_model_is_asked_only_about_pairs_it_was_not_fitted_on() -> None:
    data = simulate(pairs=120)
    pairs = data.examples.pairs
    ids = [pair.feedback_id for pair in pairs]
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    wrong = -head.scores(data.lm, data.overlap).mean  # wherever this one is right
    previous = Previous(wrong, frozenset(ids[:50]), frozenset(ids[50:90]))
    made = replace(pairs[-1], kind="mismatch")
    holdout = Examples((*pairs[:-1], made))
    report = report_reward_head(head, holdout, data.table, data.lm, data.overlap, previous)
    for before, beside, count in (
        (report.previous, report.beside_previous, 69),
        (report.previous_old, report.beside_previous_old, 40),
        (report.previous_new, report.beside_previous_new, 29),
    ):
        assert before is not None and beside is not None
        assert before.items == beside.items == count
        assert before.value == pytest.approx(1 - beside.value)


def test_accuracy_is_the_share_of_pairs_in_order_per_kind() -> None:
    data = simulate(pairs=40)
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    pairs = tuple(
        replace(pair, kind="ranking" if i % 2 else "mismatch")
        for i, pair in enumerate(data.examples.pairs)
    )
    report = report_reward_head(head, Examples(pairs), data.table, data.lm, data.overlap)
    scores = head.raw(data.lm, data.overlap).mean(0)
    rows = [(data.table.rows([p.chosen]), data.table.rows([p.rejected])) for p in pairs[1::2]]
    expected = sum(bool(scores[a] > scores[b]) for a, b in rows) / len(rows)
    assert report.accuracy == report.rankings
    assert report.rankings is not None and report.rankings.value == pytest.approx(expected)
    assert report.mismatches is not None and report.corrections is None


def test_the_interval_by_question_is_over_questions() -> None:
    data = simulate(pairs=40)
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    pairs = tuple(replace(pair, customer="one") for pair in data.examples.pairs)
    report = report_reward_head(head, Examples(pairs), data.table, data.lm, data.overlap)
    assert report.accuracy is not None and report.by_question is not None
    assert report.by_question.value == report.accuracy.value
    asked = {pair.chosen.context.question for pair in pairs if pair.kind != "mismatch"}
    assert (report.accuracy.clusters, report.by_question.clusters) == (1, len(asked))
    assert report.longer_wins is not None and report.longer_wins.value == 0.5


def test_nothing_held_out_is_nothing_measured() -> None:
    data = simulate(pairs=40)
    head = fit_reward_head(data.lm, data.overlap, make_views(data.examples, data.table))
    report = report_reward_head(head, Examples(), data.table, data.lm, data.overlap)
    assert set(vars(report).values()) == {None}


def test_rows_of_the_table_are_distinct_answers() -> None:
    data = simulate(pairs=5)
    table = AnswerTable.of([*data.examples.answers(), *data.examples.answers()])
    assert len(table.answers) == 10
    assert table.rows(table.answers).tolist() == list(range(10))
    assert table.overlap().shape == (10, 23)


def test_spearman_knows_order_reverse_and_ties() -> None:
    values = [float(i) for i in range(12)]
    assert spearman(values, [v**3 for v in values]) == pytest.approx(1.0)
    assert spearman(values, values[::-1]) == pytest.approx(-1.0)
    assert spearman([1, 2, 2, 3], [1, 3, 2, 4], least_items=4) == pytest.approx(0.9486833)
    assert spearman(values, [1.0] * 12) is None and spearman([1.0], [1.0]) is None
