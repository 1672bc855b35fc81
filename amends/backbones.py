"""Which forward a base model gets: the fused one, or transformers with PEFT where the fused one is
not written for it. The only place that decides.

Both have the same members for the trainer; the engine has a runner for each.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amends.backbone import Backbone, why_not_fused
from amends.base_model import load_causal_lm, serving_dtype
from amends.errors import ModelUnavailable
from amends.peft_backbone import PeftBackbone
from amends.settings import Settings

log = logging.getLogger(__name__)

AnyBackbone = Backbone | PeftBackbone


def load_backbone(folder: Path, settings: Settings) -> AnyBackbone:
    """The base model in `folder`, ready to serve and to train. Raises ModelUnavailable."""
    with _unknown_refused(folder):
        model = load_causal_lm(folder, serving_dtype(settings))
    reason = why_not_fused(model.config, settings.context_tokens)
    if reason is None:
        return Backbone(model, settings.context_tokens)
    log.warning("%s: %s; it runs through transformers and PEFT, slower", folder.name, reason)
    return PeftBackbone(model, settings.context_tokens)


def why_slow(folder: Path, settings: Settings) -> str | None:
    """Why the model in `folder` will not get the fused forward; None when it will."""
    from transformers import AutoConfig

    with _unknown_refused(folder):
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    return why_not_fused(config, settings.context_tokens)


@contextmanager
def _unknown_refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        said = str(error).split("\n", 1)[0]
        raise ModelUnavailable(
            f"{folder}: expected a causal language model that transformers knows: {said}"
        ) from error
