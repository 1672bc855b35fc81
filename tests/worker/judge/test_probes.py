"""worker.judge.probes: the shipped probes are whole, and a broken file is named with its line."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from server.languages import Languages
from worker.data.words import numbers
from worker.judge.probes import KINDS, InvalidProbes, Probe, file_of, load_probes, shipped

SHIPPED = load_probes()


def of_kind(*kinds: str) -> list[Probe]:
    return [probe for probe in SHIPPED if probe.kind in kinds]


def test_every_kind_has_enough_probes_and_no_id_comes_twice() -> None:
    counted = Counter(probe.kind for probe in SHIPPED)
    assert set(counted) == set(KINDS)
    assert min(counted.values()) >= 35 and len(SHIPPED) >= 250
    assert len({probe.probe_id for probe in SHIPPED}) == len(SHIPPED)
    assert {file.name for file in shipped().iterdir()} == {
        "passages.jsonl",
        *(file_of(kind) for kind in KINDS),
    }


def test_no_message_is_asked_twice() -> None:
    asked = Counter((m, p.note, p.passages) for p in SHIPPED for m in p.messages)
    assert [message for message, times in asked.items() if times > 1] == []


def test_every_message_would_reach_the_policy() -> None:
    languages = Languages()
    messages = [message for probe in SHIPPED for message in probe.messages]
    assert [m for m in messages if languages.other_than("en", m)] == []


@pytest.mark.parametrize("probe", of_kind("personal data", "injection"), ids=lambda p: p.probe_id)
def test_what_must_not_be_said_stands_in_the_prompt_and_in_no_fact(probe: Probe) -> None:
    given = [*probe.messages, probe.note, *(m for turn in probe.history for m in turn)]
    letters = "".join(filter(str.isalnum, " ".join(given).lower()))
    for phrase in probe.wrong:
        assert "".join(filter(str.isalnum, phrase.lower())) in letters
        assert phrase.lower() not in " ".join(probe.facts).lower()


def test_both_messages_of_a_pair_ask_with_the_same_numbers() -> None:
    """Else one of them would give a number away, or lead astray. (b4: before.)"""
    for probe in of_kind("paired"):
        usual, other = (numbers(message.replace("b4", "")) for message in probe.messages)
        assert usual == other, probe.probe_id


def test_a_note_and_the_turns_before_are_in_the_prompt() -> None:
    noted = next(p for p in SHIPPED if p.note and not p.history)
    (prompt,) = noted.prompts()
    assert prompt.context.passage_texts == (*noted.facts, noted.note)
    spoken = next(p for p in SHIPPED if p.history)
    assert spoken.prompts()[0].context.history == spoken.history
    assert [p.context.question for p in of_kind("paired")[0].prompts()] == list(
        of_kind("paired")[0].messages
    )


GOOD = '{"id": "a", "passages": ["returns"], "message": "When?"'
BROKEN = {
    "no JSON": ("deflection", "{", "deflection.jsonl line 1: expected JSON, got '{'"),
    "a list": ("deflection", "[]", "line 1: the line: Input should be"),
    "no message": ("deflection", '{"id": "a", "passages": ["returns"]}', "message: Field required"),
    "empty message": (
        "deflection",
        '{"id": "a", "passages": ["returns"], "message": ""}',
        "expects text in message",
    ),
    "unknown field": ("deflection", GOOD + ', "colour": "red"}', "colour: Extra inputs"),
    "unknown passage": (
        "deflection",
        '{"id": "a", "passages": ["gone"], "message": "When?"}',
        "no passage in passages.jsonl is called gone",
    ),
    "not measured": ("deflection", GOOD + ', "wrong": ["x"]}', "is not measured by wrong"),
    "no canary": ("injection", GOOD + "}", "injection.jsonl line 1: a injection probe needs wrong"),
    "half a pair": ("paired", GOOD + ', "right": ["40"]}', "needs other"),
    "twice": ("deflection", GOOD + "}\n" + GOOD + "}", "line 2: the id 'a' was there before"),
    "twice in two files": (
        "paired",
        GOOD.replace('"a"', '"deflection-days"') + ', "other": "O?", "right": ["40"]}',
        "the id 'deflection-days' was there before",
    ),
}


@pytest.mark.parametrize(("kind", "text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_says_where_and_what(tmp_path: Path, kind: str, text: str, said: str) -> None:
    folder = shutil.copytree(shipped(), tmp_path / "probes")
    (folder / f"{kind}.jsonl").write_text(text)
    with pytest.raises(InvalidProbes) as caught:
        load_probes(folder)
    assert said in str(caught.value)


def test_a_missing_file_and_a_passage_twice_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(shipped(), tmp_path / "probes")
    passages = folder / "passages.jsonl"
    passages.write_text(passages.read_text() * 2)
    with pytest.raises(InvalidProbes, match="passage id 'returns' was there before"):
        load_probes(folder)
    passages.unlink()
    with pytest.raises(InvalidProbes, match=r"expected probes in .*passages\.jsonl"):
        load_probes(folder)
