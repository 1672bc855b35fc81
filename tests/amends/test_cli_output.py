"""What the command line prints."""

import pytest

from amends.cli.output import print_rows


def test_peoples_words_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"said": "see [price list] for it"}, {"said": "[/i] hello"}], "nothing", False)
    shown = capsys.readouterr().out
    assert "see [price list] for it" in shown and "[/i] hello" in shown
