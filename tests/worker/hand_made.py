"""Two sides of judgements made by hand, as the data set of a round; adapters nobody trained."""

import torch

from amends.backbones import AnyBackbone
from amends.lora import Lora
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


def adapter(backbone: AnyBackbone, seed: int, size: float = 0.01) -> Lora:
    """One that changes the model by more or less."""
    lora = Lora.fresh(backbone.lora_shape(2, 4.0), seed)
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in lora.tensors.items():
        if name.endswith("lora_B"):
            tensor.normal_(std=size, generator=draw)
    return lora
