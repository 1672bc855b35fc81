"""llama.cpp in bench-serving: batched greedy decoding, without a LoRA and with one for all streams.

Each step decodes one token of every stream under way and fills the batch with what is left of the
prompts, as llama.cpp's own server does. Not named llama_cpp: the script would then import itself.
"""

import ctypes
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import llama_cpp
import numpy as np
from cells import Began, Workload, arguments, serve

BATCH_TOKENS = 512
MOST_STREAMS = 32
_ERROR = 4  # ggml's log level


@llama_cpp.llama_log_callback
def _log(level: int, text: bytes, _: object) -> None:
    """Errors only: a context's graph alone is hundreds of lines otherwise."""
    if level == _ERROR:
        sys.stderr.write(text.decode(errors="replace"))


class Token(NamedTuple):
    id: int
    stream: int
    position: int
    draws: bool  # the stream's next token is drawn after this one


class LlamaCpp:
    """One model, one context with a place for every stream. Lives as long as the process."""

    def __init__(self, gguf: Path, workload: Workload) -> None:
        self._new_tokens = workload.new_tokens
        llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(bytes(gguf), model)
        context = llama_cpp.llama_context_default_params()
        streams = MOST_STREAMS
        longest = max(len(ids) for prompts in workload.prompts.values() for ids in prompts)
        context.n_seq_max = streams
        context.n_ctx = streams * (longest + workload.new_tokens)
        context.n_batch = BATCH_TOKENS
        context.n_threads = context.n_threads_batch = workload.threads
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        if not self._model or not self._context:
            raise RuntimeError(f"llama.cpp could not load {gguf}; its error is on stderr")
        self._tokens = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)

    def use_lora(self, gguf: Path) -> None:
        """For every stream from now on: llama.cpp sets it on the context, not on a sequence."""
        lora = llama_cpp.llama_adapter_lora_init(self._model, bytes(gguf))
        loras = (llama_cpp.llama_adapter_lora_p_ctypes * 1)(lora)
        scales = (ctypes.c_float * 1)(1.0)
        if not lora or llama_cpp.llama_set_adapters_lora(self._context, loras, 1, scales):
            raise RuntimeError(f"llama.cpp could not use {gguf}; its error is on stderr")

    def run(self, prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
        """`live` says nothing here: all streams have the context's LoRA."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        unread = deque(
            Token(id, stream, position, position == len(ids) - 1)
            for stream, ids in enumerate(prompts)
            for position, id in enumerate(ids)
        )
        left = [self._new_tokens] * len(prompts)
        drawn: list[Token] = []
        while drawn or unread:
            room = min(len(unread), BATCH_TOKENS - len(drawn))
            tokens = drawn + [unread.popleft() for _ in range(room)]
            drawn = []
            self._decode(tokens)
            for i, (_, stream, position, draws) in enumerate(tokens):
                if draws:
                    best = int(self.logits(i).argmax())
                    began(stream)
                    left[stream] -= 1
                    if left[stream]:  # end tokens count as any other
                        drawn.append(Token(best, stream, position + 1, True))
        return self._new_tokens * len(prompts)

    def logits(self, i: int) -> np.ndarray:
        """(V,) after token i of the last batch."""
        row = llama_cpp.llama_get_logits_ith(self._context, i)
        return np.ctypeslib.as_array(row, (self._tokens,))

    def _decode(self, tokens: list[Token]) -> None:
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token.id, token.position, token.draws
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, token.stream
        code = llama_cpp.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")


def main() -> None:
    workload, versions = arguments()
    if versions > 1:
        sys.exit("two LoRA versions cannot share a batch in llama.cpp")
    with TemporaryDirectory(prefix="amends-gguf-") as folder:
        script = str(Path(__file__).with_name("llama_gguf.py"))
        # In its own process: what it needs is not counted as llama.cpp's memory.
        made = subprocess.run([sys.executable, script, sys.argv[1], folder], check=False)
        if made.returncode:
            sys.exit(made.returncode)
        engine = LlamaCpp(Path(folder, "model.gguf"), workload)
        if versions:
            engine.use_lora(Path(folder, "lora.gguf"))
        serve(workload, versions, engine.run)


if __name__ == "__main__":
    main()
