"""Conversation and retrieved passages -> token ids, and back to text.

The only place that words the system prompt and that knows the chat template; serving and training
render with it, so both see the same tokens. Knows no store and no model. Invariant: a prompt
leaves room for the longest response; the oldest turns are dropped first, never the system prompt,
the passages or the visitor's message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jinja2 import TemplateError
from tokenizers.decoders import DecodeStream

from amends.conversation import Passage
from amends.errors import InvalidInput

SYSTEM = (
    "You answer customers of {shop}. Use only the facts below. "
    "Answer in one or two short sentences."
)
# For models that bring no chat template.
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] | capitalize + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)


class MessageTooLong(InvalidInput):
    """The visitor's message alone leaves no room for a response."""


def prompt_messages(
    shop_name: str,
    passages: Sequence[Passage],
    history: Sequence[tuple[str, str]],
    message: str,
) -> list[dict[str, str]]:
    """The prompt as chat messages, {"role", "content"}: system and passages, turns, message."""
    facts = "".join(f"\n\n{passage.title}\n{passage.text}" for passage in passages)
    spoken = [("system", SYSTEM.format(shop=shop_name) + facts)]
    for said, answered in history:
        spoken += [("user", said), ("assistant", answered)]
    spoken.append(("user", message))
    return [{"role": role, "content": text} for role, text in spoken]


@dataclass(frozen=True)
class Prompt:
    """`token_ids` as the engine takes them; `dropped_turns` earlier turns found no room."""

    token_ids: tuple[int, ...]
    dropped_turns: int = 0


class PromptRenderer:
    """Renders prompts for one model."""

    def __init__(self, tokenizer: Any, context_tokens: int, max_response_tokens: int) -> None:
        self._tokenizer = tokenizer
        self.context_tokens = context_tokens
        self.max_response_tokens = max_response_tokens
        self._room = context_tokens - max_response_tokens
        self.eos_token_ids = _end_tokens(tokenizer)

    def render(
        self,
        shop_name: str,
        passages: Sequence[Passage],
        history: Sequence[tuple[str, str]],
        message: str,
    ) -> Prompt:
        """Token ids of the system prompt with passages, as much history as fits, and the message.

        history: (message, response) of earlier turns, oldest first. Raises MessageTooLong.
        """
        for dropped in range(len(history) + 1):
            messages = prompt_messages(shop_name, passages, history[dropped:], message)
            token_ids = self._tokens(messages)
            if len(token_ids) <= self._room:
                return Prompt(token_ids, dropped)
        raise MessageTooLong(
            f"expected a message that fits {self._room} tokens together with the passages, "
            f"got {len(token_ids)}; send a shorter one"
        )

    def render_messages(self, messages: Sequence[tuple[str, str]]) -> tuple[int, ...]:
        """Token ids of (role, text) messages that somebody else composed, however many they are.

        Raises InvalidInput when the model's chat template does not take these roles in this order.
        """
        try:
            return self._tokens([{"role": role, "content": text} for role, text in messages])
        except TemplateError as error:
            raise InvalidInput(
                f"the model's chat template refuses these messages: {error}"
            ) from None

    def encode_response(self, text: str) -> tuple[int, ...]:
        """Token ids of a response written by somebody else (an expert), end token included."""
        ids = self._tokenizer(text.strip(), add_special_tokens=False)["input_ids"]
        return (*ids, self._tokenizer.eos_token_id)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The response's text without special tokens."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True)).strip()

    def decoder(self) -> "ResponseDecoder":
        """A decoder for one streamed response."""
        return ResponseDecoder(self._tokenizer.backend_tokenizer)

    def token_bytes(self, token_id: int) -> bytes:
        """What one token stands for, where it is part of a character too; special ones by name."""
        piece: str = self._tokenizer.backend_tokenizer.id_to_token(token_id) or ""
        if token_id in self._added_token_ids:
            return piece.encode()
        if self._byte_level:
            return bytes(_BYTE_OF[character] for character in piece)
        single = _BYTE_PIECE.fullmatch(piece)
        return bytes([int(single[1], 16)]) if single else piece.replace("▁", " ").encode()

    @cached_property
    def _added_token_ids(self) -> frozenset[int]:
        return frozenset(self._tokenizer.get_added_vocab().values())

    @cached_property
    def _byte_level(self) -> bool:
        return "ByteLevel" in repr(self._tokenizer.backend_tokenizer.decoder)

    def _tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        plain = [{**spoken, "content": self._plain(spoken["content"])} for spoken in messages]
        if not self._takes_system:
            plain = _without_system(plain)
        text = self._tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=True
        )
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the chat template has a place for a system prompt (Gemma's refuses one)."""
        told = "Answer in rhymes."
        messages = [{"role": "system", "content": told}, {"role": "user", "content": "Hi"}]
        try:
            return told in self._tokenizer.apply_chat_template(messages, tokenize=False)
        except TemplateError:
            return False

    def _plain(self, text: str) -> str:
        # Nobody but the template may write its control tokens: neither a visitor nor a document.
        for token in self._tokenizer.all_special_tokens:
            text = text.replace(token, token.replace("|", "¦").replace("<", "‹"))
        return text


def _without_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """A leading system prompt said at the beginning of the user's first message."""
    if [message["role"] for message in messages[:2]] != ["system", "user"]:
        return messages
    system, first, *others = messages
    content = system["content"] + "\n\n" + first["content"]
    return [{**first, "content": content}, *others]


class ResponseDecoder:
    """Turns the tokens of one response into text as they come; holds back incomplete characters."""

    def __init__(self, backend_tokenizer: Any) -> None:
        self._tokenizer = backend_tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that became complete with these tokens ('' when none did)."""
        pieces = [self._stream.step(self._tokenizer, token) for token in token_ids]
        return "".join(piece for piece in pieces if piece)


def _byte_alphabet() -> dict[str, int]:
    # Byte-level tokenizers write bytes as printable characters (Radford et al. 2019, encoder.py).
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(256 + index): byte for index, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


_BYTE_OF = _byte_alphabet()
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")  # how SentencePiece writes a single byte


def _end_tokens(tokenizer: Any) -> frozenset[int]:
    vocabulary = tokenizer.get_vocab()
    texts = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>", "<end_of_turn>")
    ends = {vocabulary[text] for text in texts if text in vocabulary}
    return frozenset(ends | {tokenizer.eos_token_id})
