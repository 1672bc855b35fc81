"""One vLLM server over HTTP: responses by token ids, adapters in and out, what it holds.

Knows vLLM's routes; nothing of versions, of other replicas, or of what to do when one is lost.
Invariants: an adapter is never loaded in place; ending `write` closes its connection, which ends
the request there. Not covered: time limits other than that of connecting; callers set their own.
"""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from amends.engine.sequence import Sampling
from amends.errors import AdapterRefused, AmendsError, InvalidInput

CONNECT_S: Final = 5.0
_TIMEOUT: Final = httpx.Timeout(None, connect=CONNECT_S)
_MOST_LOGPROBS: Final = 20  # of a position, that vLLM tells unless it was started otherwise
_DATA: Final = "data: "
_SEEDS: Final = 2**63  # vLLM takes signed 64 bits
_SHOWN: Final = 300  # characters of an answer that we do not understand


class ReplicaLost(AmendsError):
    """The replica gave no answer, or none that makes sense: another one may be asked."""


@dataclass(frozen=True)
class Holdings:
    """What a replica serves: its base model's name and longest sequence, its adapters' names."""

    base_model: str
    max_positions: int
    adapters: frozenset[str]


@dataclass(frozen=True)
class Written:
    """Tokens since the last one and their log-probabilities under the raw logits."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"] | None


class _Foreign(BaseModel):
    """Of a protocol that is not ours: fields that we do not need may come and go."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Card(_Foreign):
    id: str
    parent: str | None = None
    max_model_len: int | None = None


class _Cards(_Foreign):
    data: tuple[_Card, ...]


class _Logprobs(_Foreign):
    token_logprobs: tuple[float, ...]


class _Choice(_Foreign):
    token_ids: tuple[int, ...]
    logprobs: _Logprobs
    finish_reason: Literal["stop", "length"] | None = None


class _Event(_Foreign):
    choices: tuple[_Choice, ...]


class _Best(_Foreign):
    top_logprobs: tuple[dict[str, float], ...]


class _FirstChoice(_Foreign):
    logprobs: _Best


class _First(_Foreign):
    choices: tuple[_FirstChoice, ...]


class Replica:
    """The server at `url`. No message names it: messages may reach visitors."""

    def __init__(self, url: str, end_tokens: frozenset[int], api_key: str | None = None) -> None:
        self._end_tokens = sorted(end_tokens)
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
            trust_env=False,  # these servers stand beside us: no proxy of the environment
        )

    async def holdings(self) -> Holdings:
        """What it serves now, if its engine is alive. Raises ReplicaLost."""
        with _lost():
            _expect_ok(await self._http.get("/health"))
            answer = await self._http.get("/v1/models")
            _expect_ok(answer)
            cards = _Cards.model_validate_json(answer.content).data
        for card in cards:
            if card.parent is None and card.max_model_len is not None:
                adapters = frozenset(c.id for c in cards if c.parent is not None)
                return Holdings(card.id, card.max_model_len, adapters)
        raise ReplicaLost("it lists no base model")

    async def load(self, adapter: str, folder: Path) -> None:
        """Load an adapter under a name that it never had. Raises AdapterRefused, ReplicaLost."""
        body = {"lora_name": adapter, "lora_path": str(folder)}
        with _lost():
            answer = await self._http.post("/v1/load_lora_adapter", json=body)
            if answer.is_success:
                return
            reason = _reason(answer)
            if "already been loaded" in reason:  # by an attempt whose answer we did not wait for
                return
            if answer.is_server_error:  # what is wrong, the adapter or the server?
                _expect_ok(await self._http.get("/health"))
        if answer.status_code in (401, 403):
            raise ReplicaLost(f"{reason}; is AMENDS_VLLM_API_KEY right?")
        if reason == "Not Found":  # of a route; a folder that is not there has more to say
            reason = "it takes no adapters: start it with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
        raise AdapterRefused(reason)

    async def unload(self, adapter: str) -> None:
        """Forget an adapter; requests that run with it go on. Raises ReplicaLost."""
        with _lost():
            answer = await self._http.post("/v1/unload_lora_adapter", json={"lora_name": adapter})
            if answer.status_code != 404:
                _expect_ok(answer)

    async def first_logprobs(self, adapter: str, prompt: Sequence[int]) -> dict[str, float]:
        """Log-probabilities of the likeliest first tokens of a response. Raises AdapterRefused (it
        makes them no numbers), ReplicaLost.

        Not those of the prompt's tokens: vLLM 0.32 for CPUs dies of that question while streams
        run.
        """
        body = {
            "model": adapter,
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": _MOST_LOGPROBS,
            "return_tokens_as_token_ids": True,
        }
        with _lost():
            answer = await self._http.post("/v1/completions", json=body)
            if answer.is_error and "JSON compliant" in answer.text:  # JSON has no NaN
                raise AdapterRefused("with it, log-probabilities are no numbers")
            _expect_ok(answer)
            (first,) = _First.model_validate_json(answer.content).choices
            return first.logprobs.top_logprobs[0]

    async def write(
        self, adapter: str, prompt: Sequence[int], sampling: Sampling
    ) -> AsyncGenerator[Written, None]:
        """A response as it is written; the last piece has a finish reason. Raises InvalidInput,
        ReplicaLost (also in the middle).
        """
        body = self._body(adapter, prompt, sampling)
        with _lost():
            async with self._http.stream("POST", "/v1/completions", json=body) as answer:
                if not answer.is_success:
                    await answer.aread()
                    if answer.status_code in (400, 422):
                        raise InvalidInput(f"vLLM refuses the request: {_reason(answer)}")
                    _expect_ok(answer)
                async for line in answer.aiter_lines():
                    if not line.startswith(_DATA) or line == "data: [DONE]":
                        continue
                    for choice in _Event.model_validate_json(line[len(_DATA) :]).choices:
                        logprobs = choice.logprobs.token_logprobs
                        yield Written(choice.token_ids, logprobs, choice.finish_reason)
                        if choice.finish_reason is not None:
                            return
        raise ReplicaLost("it ended a response without a reason")

    async def aclose(self) -> None:
        await self._http.aclose()

    def _body(self, adapter: str, prompt: Sequence[int], sampling: Sampling) -> dict[str, object]:
        body: dict[str, object] = {
            "model": adapter,
            "prompt": list(prompt),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stream": True,
            "return_token_ids": True,
            "logprobs": 0,  # of the drawn token alone
            "stop_token_ids": self._end_tokens,
            "ignore_eos": True,  # ours are all in stop_token_ids
            # Whatever the model's generation_config.json says, the embedded engine knows no such.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed % _SEEDS
        return body


@contextmanager
def _lost() -> Iterator[None]:
    """What goes wrong on the way to a replica and back is ReplicaLost."""
    try:
        yield
    except httpx.HTTPError as error:
        raise ReplicaLost(str(error) or type(error).__name__) from error
    except (ValidationError, ValueError, KeyError) as error:
        raise ReplicaLost(f"what it says is not understood: {error!s:.{_SHOWN}}") from error


def _expect_ok(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise ReplicaLost(f"it answers {answer.status_code}: {_reason(answer)}")


def _reason(answer: httpx.Response) -> str:
    """What vLLM says in an error's body."""
    try:
        body = answer.json()
        return str(body["error"]["message"] if "error" in body else body["detail"])[:_SHOWN]
    except (ValueError, KeyError, TypeError):
        return answer.text[:_SHOWN].strip() or answer.reason_phrase
