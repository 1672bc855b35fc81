"""Messages that somebody else composed, and what single tokens stand for."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from amends.errors import InvalidInput
from amends.prompt import PromptRenderer
from tests.tiny_model import make_tokenizer


def sentencepiece_renderer() -> PromptRenderer:
    """A tokenizer as Llama 2 and Mistral have it: ▁ for a space, <0xHH> for a lone byte."""
    vocabulary = {"<unk>": 0, "▁days": 1, "<0xC3>": 2, "<0xBC>": 3}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", bos_token="</s>"
    )
    return PromptRenderer(fast, 64, 16)


def test_the_bytes_of_a_texts_tokens_are_the_texts_bytes() -> None:
    tokenizer = make_tokenizer()
    renderer = PromptRenderer(tokenizer, 64, 16)
    text = "30 days — für 5 €, 😀\n\x00\x7f\xad"
    token_ids = tokenizer(text, add_special_tokens=False)["input_ids"]

    assert b"".join(renderer.token_bytes(token_id) for token_id in token_ids) == text.encode()
    assert renderer.token_bytes(2) == b"<|im_end|>"
    assert renderer.token_bytes(99_999) == b""  # a padded vocabulary has ids without a token


def test_a_sentencepiece_token_stands_for_the_same() -> None:
    renderer = sentencepiece_renderer()

    spelt = [renderer.token_bytes(token_id) for token_id in range(1, 5)]
    assert spelt == [b" days", b"\xc3", b"\xbc", b"</s>"]


def test_messages_that_the_template_refuses_are_invalid_input() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    renderer = PromptRenderer(tokenizer, 64, 16)

    with pytest.raises(InvalidInput, match="roles must alternate"):
        renderer.render_messages([("user", "Hi"), ("user", "Hi")])
