"""The first token of a conversation whose passages an earlier one's question has brought, and of
that earlier one: system prompt and passages are nearly all of the prompt.

Prints one JSON line for each figure.
"""

import asyncio
import random
import tempfile
from pathlib import Path
from statistics import median

from amends_server import WORDS, AmendsServer, amends_server, message
from cells import arguments, report

from simulator.client import Api

KEYWORDS = "lantern kettle saddle anchor compass hammock".split()  # one finds each document
PASSAGES, PASSAGE_WORDS, QUESTION_WORDS = 4, 90, 9
CONVERSATIONS = 8  # on each document
PROMPT = "vllm:prompt_tokens_total"


def document(keyword: str) -> str:
    """So many passages, and the keyword in each."""
    chosen = random.Random(keyword)
    pieces = [
        [keyword, *(chosen.choice(WORDS) for _ in range(PASSAGE_WORDS - 1))]
        for _ in range(PASSAGES)
    ]
    return " ".join(word for piece in pieces for word in piece) + "."


async def visit(server: AmendsServer) -> tuple[list[float], list[float]]:
    """Seconds to the first token: of who comes first to a document and version, of the others."""
    cold, warm, read = [], [], set()
    async with Api(server.url, server.staff_token) as api:
        visitor = await api.open_session()
        for keyword in KEYWORDS:
            for number in range(CONVERSATIONS):
                async with api.chat(visitor) as chat:
                    question = message(QUESTION_WORDS, f"{keyword} {number}", keyword)
                    answer = await chat.ask(question)
                if answer.origin != "policy":
                    raise RuntimeError(f"expected the policy's answer, got {answer}")
                seen = (keyword, answer.policy_version)
                (warm if seen in read else cold).append(answer.first_token_s)
                read.add(seen)
    return cold, warm


def main() -> None:
    workload, versions = arguments()
    with (
        tempfile.TemporaryDirectory(prefix="amends-bench-") as home,
        amends_server(
            workload.model,
            workload.adapters[:versions],
            workload.new_tokens,
            Path(home),
            {keyword.title(): document(keyword) for keyword in KEYWORDS},
            PASSAGES,
        ) as server,
    ):
        cold, warm = asyncio.run(visit(server))
        tokens = server.counted(PROMPT) / (len(cold) + len(warm))
    for cache, seconds in (("cold", cold), ("warm", warm)):
        setting = {"versions": versions, "streams": 1, "prompt": round(tokens), "cache": cache}
        row = {"metric": "first_token_s", **setting, "stat": "p50", "asked": len(seconds)}
        report({**row, "value": median(seconds), "least": min(seconds), "most": max(seconds)})


if __name__ == "__main__":
    main()
