"""Which judgements are trained on and which are kept, by group: none is on both sides.

Fold 0 is for choosing a configuration and is never measured on; fold s is the test fold of seed s.
"""

import hashlib

from worker.data.examples import Examples

FOLDS = 4
SEEDS = (1, 2, 3)


def fold_of(group: str) -> int:
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") % FOLDS


def sides(
    examples: Examples, test_fold: int, most: tuple[int, int] | None = None
) -> tuple[Examples, Examples]:
    """Train side and test side, of at most so many pairs each."""

    def side(tested: bool, most_pairs: int | None) -> Examples:
        def kept(group: str) -> bool:
            return (fold_of(group) == test_fold) == tested

        return Examples(
            pairs=tuple(p for p in examples.pairs if kept(p.customer))[:most_pairs],
            thumbs=tuple(thumb for thumb in examples.thumbs if kept(thumb.customer)),
            ratings=tuple(rating for rating in examples.ratings if kept(rating.customer)),
        )

    train, test = most or (None, None)
    return side(False, train), side(True, test)


def union(parts: list[tuple[Examples, Examples]]) -> Examples:
    """Every judgement of these sides once."""
    pairs, thumbs, ratings = (
        {
            example.feedback_id: example
            for part in parts
            for side in part
            for example in getattr(side, kind)
        }
        for kind in ("pairs", "thumbs", "ratings")
    )
    return Examples(tuple(pairs.values()), tuple(thumbs.values()), tuple(ratings.values()))
