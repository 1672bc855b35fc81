"""A real vLLM server on a free port of this machine, started as docs/vllm.md says."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
START_S = 300.0
STOP_S = 30.0


class VllmProcess:
    """`start`, `kill` and `start` again on the same port."""

    def __init__(self, model: Path, folder: Path, context_tokens: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        self._model = model
        self._context_tokens = context_tokens
        self._log = folder / "vllm.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns when it answers."""
        cores = min(2, os.cpu_count() or 1)
        environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}",  # "auto" keeps a core for itself
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        environment.pop("PYTHONPATH", None)
        options = f"--host 127.0.0.1 --port {self._port} --api-server-count 1 --dtype bfloat16 "
        options += "--enable-lora --max-loras 5 --max-cpu-loras 10 --max-lora-rank 16 "
        options += f"--max-model-len {self._context_tokens} --generation-config vllm"
        command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", self._model]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [*command, *options.split()],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, f"vLLM ended:\n{self._log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no vLLM yet:\n{self._log.read_text()[-3000:]}"
            time.sleep(0.5)

    def metric(self, name: str) -> float:
        """The sum of a metric's values."""
        lines = httpx.get(f"{self.url}/metrics", trust_env=False).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def kill(self) -> None:
        """The whole process group at once, as when the machine goes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                pass
            self.kill()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False
