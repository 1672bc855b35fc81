"""The shop's documents: read, split into passages, find the ones that fit a question.

Knows no model and no store. Invariants: a passage is one section of one document, short enough for
the prompt, and its id is stable as long as file name and headings are; a folder that was imported
loads.

How a passage is found: BM25 ranks; what ranks first still has to cover enough of the question's
rare words, weighted as BM25 weighs them, or nothing is found. BM25's own scores have no fixed scale
and cannot say "nothing fits"; but those of one question compare, so what scores far below the best
is left out: it would only be quoted in its place.
"""

import math
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeVar

import bm25s
import numpy as np
from pydantic import Field, ValidationError

from amends.conversation import Passage
from amends.durable_file import locked
from amends.errors import InvalidInput
from amends.record import Record
from amends.settings import Settings
from amends.words import words_of

MAX_PASSAGE_WORDS = 90
MIN_COVERAGE = 0.45  # share of the question's weighted words that the passage must contain
MIN_SCORE = 0.6  # share of the best passage's score that a further one must have
TITLE_WEIGHT = 2  # a heading says what its section is about: its words count this often

R = TypeVar("R", bound=Record)


class Shop(Record):
    """Who answers: shop.json."""

    name: str = Field(min_length=1, max_length=80)
    greeting: str = Field(min_length=1, max_length=300)
    language: str = Field("en", pattern=r"^[a-z]{2}$", description="ISO 639-1")
    address: str | None = None


class Question(Record):
    """A question that the documents answer: one line of questions.jsonl."""

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    must_pass: bool = False
    intent: str


class Knowledge:
    """The documents of one shop, indexed in memory."""

    def __init__(
        self, shop: Shop, passages: Sequence[Passage], questions: Sequence[Question]
    ) -> None:
        self.shop = shop
        self.passages = tuple(passages)
        self.questions = tuple(questions)
        titles = [words_of(passage.title, shop.language) for passage in self.passages]
        texts = [words_of(passage.text, shop.language) for passage in self.passages]
        documents = [t * TITLE_WEIGHT + text for t, text in zip(titles, texts, strict=True)]
        if not any(documents):
            raise InvalidInput("expected documents with words to search for, found stop words only")
        self._titles = [frozenset(title) for title in titles]
        self._words = [frozenset(document) for document in documents]
        self._holding = Counter(word for words in self._words for word in words)
        self._index = bm25s.BM25()
        self._index.index(documents, show_progress=False)

    @classmethod
    def load(cls, folder: Path) -> "Knowledge":
        """Reads and checks a folder. Raises InvalidInput that names the file, what was expected and
        what came.
        """
        shop = _parse(Shop, _text(folder / "shop.json"), "shop.json")
        files = sorted((folder / "documents").glob("*.md"))
        if not files:
            raise InvalidInput(
                f"{folder / 'documents'}: expected at least one .md file, found none"
            )
        passages = [passage for file in files for passage in _passages(file)]
        return cls(shop, passages, _questions(folder / "questions.jsonl"))

    def retrieve(self, question: str, k: int) -> tuple[Passage, ...]:
        """At most k passages that fit, best first; empty when nothing does."""
        asked = list(dict.fromkeys(words_of(question, self.shop.language)))
        known = [word for word in asked if word in self._index.vocab_dict]
        if not known:
            return ()
        scores = self._index.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:k]
        return tuple(
            self.passages[i]
            for i in best
            if scores[i] >= MIN_SCORE * scores[best[0]] > 0
            and self._coverage(asked, int(i)) >= MIN_COVERAGE
        )

    def _coverage(self, asked: Sequence[str], passage: int) -> float:
        found = total = 0.0
        for word in asked:
            weight = self._rarity(word)
            total += weight
            if word in self._words[passage]:
                found += weight * (TITLE_WEIGHT if word in self._titles[passage] else 1)
        return found / total

    def _rarity(self, word: str) -> float:
        holding = self._holding[word]
        return math.log(1 + (len(self._words) - holding + 0.5) / (holding + 0.5))


def folder_of(settings: Settings) -> Path:
    """The folder that serves: the one set, else the imported one, else the example shop."""
    if settings.knowledge is not None:
        return settings.knowledge
    imported = settings.imported_knowledge_folder
    if not imported.exists() and _replaced(imported).exists():
        with _importing(imported):  # takes it back, unless an import is about to end
            pass
    if (imported / "shop.json").is_file():
        return imported
    return Path(str(resources.files("amends") / "example_shop"))


def import_folder(source: Path, destination: Path) -> Knowledge:
    """Checks a folder and copies what belongs to it, replacing what was imported before; after a
    crash, that still serves. Raises InvalidInput.
    """
    knowledge = Knowledge.load(source)
    if source.resolve() == destination.resolve():
        raise InvalidInput(f"{source}: is the folder of imported documents itself; import another")
    with _importing(destination):
        fresh = destination.with_name(destination.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "documents").mkdir(parents=True)
        for file in sorted((source / "documents").glob("*.md")):
            shutil.copyfile(file, fresh / "documents" / file.name)
        for name in ("shop.json", "questions.jsonl"):
            if (source / name).is_file():
                shutil.copyfile(source / name, fresh / name)
        old = _replaced(destination)
        shutil.rmtree(old, ignore_errors=True)
        if destination.exists():
            destination.rename(old)
        fresh.rename(destination)
        shutil.rmtree(old, ignore_errors=True)
    return knowledge


@contextmanager
def _importing(destination: Path) -> Iterator[None]:
    """One import at a time; one that was cut off between its two renames is taken back first."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with locked(destination.with_name(destination.name + ".lock")):
        if not destination.exists() and _replaced(destination).exists():
            _replaced(destination).rename(destination)
        yield


def _replaced(destination: Path) -> Path:
    """Where the folder imported before lies while another takes its place."""
    return destination.with_name(destination.name + ".old")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InvalidInput(f"{file}: expected this file, it does not exist") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{file}: expected UTF-8 text, byte {error.start} is not; save it as UTF-8"
        ) from None
    except OSError as error:
        raise InvalidInput(f"{file}: cannot be read: {error.strerror}") from error


def _parse(kind: type[R], text: str, where: str) -> R:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}: {field or 'content'}: {first['msg']}") from None


def _questions(file: Path) -> list[Question]:
    if not file.exists():
        return []
    lines = _text(file).splitlines()
    found = [
        _parse(Question, line, f"{file.name} line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    seen: set[str] = set()
    for question in found:
        if question.id in seen:
            raise InvalidInput(f"{file.name}: expected every id once, {question.id!r} comes twice")
        seen.add(question.id)
    return found


def _passages(file: Path) -> Iterator[Passage]:
    lines = _text(file).splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None or not lines[first].startswith("# "):
        got = "an empty file" if first is None else repr(lines[first][:60])
        raise InvalidInput(f"{file.name}: expected '# Title' as its first line, got {got}")
    title = lines[first][2:].strip()
    seen: set[str] = set()
    for heading, body in _sections(file.name, lines[first + 1 :]):
        slug = _slug(heading)
        if not slug or slug in seen:
            raise InvalidInput(
                f"{file.name}: expected every '## ' heading to have words and to come once, "
                f"got {heading!r}"
            )
        seen.add(slug)
        for number, text in enumerate(_short_enough(body), 1):
            yield Passage(
                passage_id=f"{file.stem}#{slug}" + (f"-{number}" if number > 1 else ""),
                title=f"{title}: {heading}",
                text=text,
                source=file.name,
            )


def _sections(name: str, lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(heading, paragraphs) of each '## ' section; none may be missing, none empty."""
    heading: str | None = None
    body: list[str] = []
    for line in [*lines, "## "]:
        if not line.startswith("## "):
            body.append(line.strip())
            continue
        paragraphs = [" ".join(p.split()) for p in "\n".join(body).split("\n\n") if p.strip()]
        if heading is None and paragraphs:
            raise InvalidInput(
                f"{name}: expected text under a '## Section' heading, got {paragraphs[0][:60]!r}"
            )
        if heading is not None:
            if not paragraphs:
                raise InvalidInput(f"{name}: section {heading!r} is empty; write it or remove it")
            yield heading, paragraphs
        heading, body = line[3:].strip(), []
    if all(not line.startswith("## ") for line in lines):
        raise InvalidInput(f"{name}: expected at least one '## Section', found none")


def _short_enough(paragraphs: Sequence[str]) -> Iterator[str]:
    """The section's text in pieces of at most MAX_PASSAGE_WORDS, cut between paragraphs, then
    sentences.
    """
    pieces = [piece for paragraph in paragraphs for piece in _cut(paragraph)]
    kept: list[str] = []
    for piece in pieces:
        if kept and len(" ".join([*kept, piece]).split()) > MAX_PASSAGE_WORDS:
            yield " ".join(kept)
            kept = []
        kept.append(piece)
    yield " ".join(kept)


def _cut(paragraph: str) -> list[str]:
    words = paragraph.split()
    if len(words) <= MAX_PASSAGE_WORDS:
        return [paragraph]
    pieces: list[list[str]] = [[]]
    for word in words:
        full = len(pieces[-1]) >= MAX_PASSAGE_WORDS
        if full or (pieces[-1] and pieces[-1][-1].endswith((".", "!", "?"))):
            pieces.append([])
        pieces[-1].append(word)
    return [" ".join(piece) for piece in pieces]


def _slug(heading: str) -> str:
    plain = unicodedata.normalize("NFKC", heading).casefold()
    return "-".join("".join(c if c.isalnum() else " " for c in plain).split())
