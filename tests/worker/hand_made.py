"""Two sides of judgements made by hand, as the data set of a round."""

from worker.data.dataset import Dataset
from worker.data.examples import Examples
from worker.data.manifest import make_manifest


def dataset_of(train: Examples, holdout: Examples) -> Dataset:
    """Nothing was dropped, nobody weighs much."""
    manifest = make_manifest(
        train,
        holdout,
        dropped=(),
        notes=(),
        largest_visitor_share=0.05,
        expert_shares={"expert": 1.0},
        weights={e.feedback_id: e.weight for side in (train, holdout) for e in side.judged()},
    )
    return Dataset(train, holdout, manifest)
