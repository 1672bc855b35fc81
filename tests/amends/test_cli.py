"""The command line as a whole: quick help, one red line for an error."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.amends.command_line import Amends

HEAVY = ("torch", "transformers", "celery", "redis", "numpy", "bm25s", "httpx")


def test_help_loads_nothing_heavy() -> None:
    code = f"""
import sys
from amends.cli import app
try:
    app(["--help"])
except SystemExit:
    pass
print("loaded:", sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert "Run everything" in answer.stdout
    assert answer.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    "words",
    [
        ("up",),
        ("train",),
        ("doctor",),
        ("export",),
        ("token",),
        ("demo",),
        ("model", "fetch"),
        *(("runs", name) for name in ("list", "show", "follow", "cancel")),
        *(("adapters", name) for name in ("list", "show", "activate", "rollback", "audit")),
        *(("knowledge", name) for name in ("check", "import")),
    ],
    ids=" ".join,
)
def test_every_command_says_what_it_does(amends: Amends, words: tuple[str, ...]) -> None:
    assert "Usage" in amends(*words, "--help").stdout


def test_a_domain_error_is_one_red_line_and_exit_code_1(amends: Amends) -> None:
    result = amends("runs", "show", "7", code=1)

    assert result.stdout == ""
    assert result.stderr == "error: no run 7; `amends runs list` names those there are\n"


@pytest.mark.parametrize("home", ["/proc/nope", "/etc/passwd"])
@pytest.mark.parametrize("words", ["up", "runs list", "doctor", "export {home}/x/y"])
def test_a_folder_that_cannot_be_written_is_one_red_line(
    amends: Amends, monkeypatch: pytest.MonkeyPatch, home: str, words: str
) -> None:
    monkeypatch.setenv("AMENDS_HOME", home)
    monkeypatch.delenv("AMENDS_REDIS_URL")
    result = amends(*words.format(home=home).split(), code=1)
    said = result.stdout if words == "doctor" else result.stderr
    assert f"{home}" in said and "can be written to" in said
    assert words == "doctor" or (said.startswith("error: ") and said.count("\n") == 1)


def test_a_malformed_setting_is_named(amends: Amends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENDS_THREADS", "many")

    assert "AMENDS_THREADS=many: " in amends("doctor", code=1).stderr


def test_a_wrong_use_is_exit_code_2(amends: Amends) -> None:
    amends("runs", "show", "first", code=2)


def test_the_staff_token_is_the_generated_one(amends: Amends, amends_home: Path) -> None:
    assert "the first `amends up` writes it" in amends("token", code=1).stderr
    amends_home.mkdir(exist_ok=True)
    (amends_home / "staff.token").write_text("a-generated-staff-token\n")

    assert amends("token").stdout == "a-generated-staff-token\n"


def test_python_dash_m_amends_is_the_command_line() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "amends", "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage" in answer.stdout
