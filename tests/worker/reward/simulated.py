"""Feedback simulated from a known score: random features, raters of known leniency."""

import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from amends.conversation import Passage
from worker.data.examples import (
    Answer,
    Context,
    Examples,
    PairExample,
    RatingExample,
    ThumbExample,
)
from worker.reward.examples import AnswerTable

PASSAGE = Passage(passage_id="p", title="Returns", text="Returns take 30 days.", source="r.md")


@dataclass(frozen=True)
class Simulated:
    """A table of answers, their LM and overlap features, the true score, and the feedback."""

    table: AnswerTable
    lm: Tensor
    overlap: Tensor
    truth: Tensor
    examples: Examples
    leniency: dict[str, float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def simulate(
    pairs: int = 300,
    thumbs: int = 0,
    ratings: int = 0,
    lm_features: int = 10,
    thumb_scale: float = 1.5,
    raters: int = 20,
    seed: int = 0,
) -> Simulated:
    chance = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    count = 2 * pairs + thumbs + 3 * ratings
    answers = [
        Answer(Context(f"t{i}", f"q{i}?", (), (PASSAGE,), None), f"Answer {i}.", None, True)
        for i in range(count)
    ]
    lm = torch.randn(count, lm_features, generator=generator).double()
    overlap = torch.randn(count, 19, generator=generator).double()
    truth = lm[:, 0] - 0.5 * lm[:, 1] + 1.5 * overlap[:, 2] - overlap[:, 7]
    r = truth.tolist()
    leniency = {f"v{i}": chance.gauss(0, 1) for i in range(raters)}

    def judged_pair(i: int) -> PairExample:
        a, b = (
            (2 * i, 2 * i + 1)
            if chance.random() < sigmoid(r[2 * i] - r[2 * i + 1])
            else (2 * i + 1, 2 * i)
        )
        return PairExample(f"f{i}", f"c{i % 100}", "ann", 1.0, "correction", answers[a], answers[b])

    def thumb(i: int) -> ThumbExample:
        row, rater = 2 * pairs + i, f"v{i % raters}"
        up = chance.random() < sigmoid(thumb_scale * r[row] + leniency[rater] + 0.4)
        return ThumbExample(f"th{i}", rater, rater, 1.0, answers[row], 1 if up else -1)

    def rating(i: int) -> RatingExample:
        first, rater = 2 * pairs + thumbs + 3 * i, f"v{i % raters}"
        position = sum(r[first : first + 3]) / 3 * 2 + leniency[rater]
        draw = chance.random()
        value = 1 + sum(draw > sigmoid(cut - position) for cut in (-3.0, -1.0, 1.0, 3.0))
        return RatingExample(f"ra{i}", rater, rater, 1.0, tuple(answers[first : first + 3]), value)

    examples = Examples(
        pairs=tuple(judged_pair(i) for i in range(pairs)),
        thumbs=tuple(thumb(i) for i in range(thumbs)),
        ratings=tuple(rating(i) for i in range(ratings)),
    )
    return Simulated(AnswerTable(tuple(answers)), lm, overlap, truth, examples, leniency)


def correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])
