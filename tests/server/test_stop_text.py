"""Stop strings in a text that comes in pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from server.stop_text import StopText

LETTERS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=4)


def written(pieces: list[str], stop: list[str]) -> tuple[list[str], bool]:
    text = StopText(stop)
    out = [text.push(piece) for piece in pieces]
    return [*out, text.rest()], text.stopped


def test_text_is_held_back_only_while_it_may_become_a_stop_string() -> None:
    assert written(["30 d", "ays E", "N", "D of"], ["END"]) == (["30 d", "ays ", "", "", ""], True)
    assert written(["30 E", "N", "tries"], ["END"]) == (["30 ", "", "ENtries", ""], False)
    assert written(["30 E", "N"], ["END"]) == (["30 ", "", "EN"], False)


def test_of_two_that_overlap_the_one_complete_first_counts() -> None:
    assert written(["xabcd"], ["abcd", "c"]) == (["xab", ""], True)
    assert written(list("xabcd"), ["abcd", "c"]) == (["x", "", "", "ab", "", ""], True)


@given(LETTERS, STOPS, st.data())
def test_where_it_ends_does_not_depend_on_how_it_is_cut(
    text: str, stop: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    edges = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]

    whole, stopped = written([text], stop)
    cut, cut_stopped = written(pieces, stop)

    ends = [(at + len(s), at) for s in stop if (at := text.find(s)) >= 0]
    expected = text[: min(ends)[1]] if ends else text
    assert stopped == cut_stopped == bool(ends)
    assert "".join(whole) == "".join(cut) == expected
