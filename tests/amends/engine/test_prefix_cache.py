"""Which block holds which tokens: found by version and all tokens, the oldest goes first."""

from amends.engine.prefix_cache import BLOCK_TOKENS, PrefixCache


def tokens(*parts: int) -> tuple[int, ...]:
    """One block for each number."""
    return tuple(part for part in parts for _ in range(BLOCK_TOKENS))


def test_only_whole_blocks_from_the_first_token_on_are_found() -> None:
    cache = PrefixCache(8)
    written = cache.add(1, (*tokens(5, 6, 7), 9))
    assert [start for _, start in written] == [0, BLOCK_TOKENS, 2 * BLOCK_TOKENS]
    blocks = [block for block, _ in written]
    assert cache.find(1, tokens(5, 6, 8)) == blocks[:2]
    assert cache.find(1, tokens(5, 6, 7)[:-1]) == blocks[:2]
    assert cache.find(1, tokens(6, 7)) == []
    assert cache.find(2, tokens(5, 6)) == []


def test_what_is_kept_already_is_not_written_again() -> None:
    cache = PrefixCache(8)
    cache.add(1, tokens(5, 6))
    assert [start for _, start in cache.add(1, tokens(5, 6, 7))] == [2 * BLOCK_TOKENS]
    assert cache.add(1, tokens(5, 6, 7)) == []


def test_the_longest_unused_goes_first_and_a_beginning_after_what_continues_it() -> None:
    cache = PrefixCache(4)
    cache.add(1, tokens(5, 6))
    cache.add(1, tokens(7, 8))
    cache.find(1, tokens(5))
    cache.add(1, tokens(9))
    assert len(cache.find(1, tokens(5, 6))) == 1  # 6 was the longest unused
    cache.add(1, tokens(9, 4))
    assert [len(cache.find(1, tokens(*t))) for t in ((7, 8), (5,), (9, 4))] == [1, 1, 2]


def test_tokens_beyond_the_memory_keep_their_beginning() -> None:
    cache = PrefixCache(2)
    assert len(cache.add(1, tokens(1, 2, 3, 4))) == 2
    assert len(cache.find(1, tokens(1, 2, 3, 4))) == len(cache) == 2
    assert PrefixCache(0).add(1, tokens(1)) == []


def test_a_retired_version_is_forgotten_and_its_blocks_are_free() -> None:
    cache = PrefixCache(3)
    cache.add(1, tokens(1, 2))
    cache.add(2, tokens(1))
    cache.keep_only({2})
    assert (len(cache), len(cache.find(2, tokens(1)))) == (1, 1)
    cache.add(3, tokens(8, 9))
    assert len(cache.find(2, tokens(1))) == 1
