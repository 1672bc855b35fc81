"""What the command line prints."""

import pytest

from amends.cli.output import console, note, print_rows


def test_an_id_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.print("a:b:c", markup=False)
    note("a:b:c")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("a:b:c\n", "a:b:c\n")


def test_peoples_words_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"said": "see [price list] for it"}, {"said": "[/i] hello"}], "nothing", False)
    shown = capsys.readouterr().out
    assert "see [price list] for it" in shown and "[/i] hello" in shown
