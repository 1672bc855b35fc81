"""The engine of Amends without the server: submit and step. It samples as visitors are answered
(temperature 0.3, top_p 0.9), where the peers take the likeliest token."""

from collections.abc import Sequence
from pathlib import Path

import torch
from cells import Began, arguments, serve

from amends.backbone import Backbone
from amends.base_model import load_causal_lm
from amends.engine.engine import Engine
from amends.engine.scheduler import Limits
from amends.engine.sequence import Chunk, Request, Sampling
from amends.lora import load_lora
from amends.settings import Settings


def main() -> None:
    workload, versions = arguments()
    torch.set_num_threads(workload.threads)
    settings = Settings()
    backbone = Backbone(
        load_causal_lm(Path(workload.model), torch.bfloat16), settings.context_tokens
    )
    shape = backbone.lora_shape(settings.lora_rank, settings.lora_alpha)
    limits = Limits(
        max_positions=settings.context_tokens, prefix_cache_bytes=settings.prefix_cache_mb << 20
    )
    engine = Engine(backbone, shape, frozenset(), limits)
    for version, folder in enumerate(workload.adapters[:versions], start=1):
        engine.write(version, load_lora(Path(folder), shape))

    def run(prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
        submitted = []
        for stream, (prompt, version) in enumerate(zip(prompts, live, strict=True)):
            sampling = Sampling(workload.new_tokens, 0.3, 0.9, seed=stream)

            def on_chunk(chunk: Chunk, stream: int = stream) -> None:
                began(stream)

            request = Request(tuple(prompt), sampling, version)
            submitted.append(engine.submit(request, on_chunk))
        while engine.step():
            pass
        return sum(len(sequence.token_ids) for sequence in submitted)

    serve(workload, versions, run)


if __name__ == "__main__":
    main()
