"""Which language a visitor writes, where it is clearly not the shop's, and what to say then.

Pure but for py3langid's model, read once. Invariant: in doubt the text counts as the shop's
language; short texts, names and order numbers are always in doubt.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

from py3langid.langid import MODEL_FILE, LanguageIdentifier

MIN_PROBABILITY: Final = 0.8
MIN_MARGIN: Final = 10.0  # the found language must be this many times likelier than the shop's
MIN_WORDS: Final = 3
MIN_LETTERS: Final = 10  # what counts where words are not set apart by spaces
LOOK_AT: Final = 400  # characters

# py3langid knows 140; among these few, its probabilities are worth something for one sentence.
LANGUAGES: Final = (
    "ar bg bn ca cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv nl no pl pt ro ru sk "
    "sl sr sv th tr uk vi zh"
).split()

# Names of these seven languages in each of them, in this order.
_TOLD: Final = ("en", "de", "fr", "es", "it", "nl", "pt")
_NAMES: Final[Mapping[str, str]] = {
    "en": "English German French Spanish Italian Dutch Portuguese",
    "de": "Englisch Deutsch Französisch Spanisch Italienisch Niederländisch Portugiesisch",
    "fr": "anglais allemand français espagnol italien néerlandais portugais",
    "es": "inglés alemán francés español italiano neerlandés portugués",
    "it": "inglese tedesco francese spagnolo italiano olandese portoghese",
    "nl": "Engels Duits Frans Spaans Italiaans Nederlands Portugees",
    "pt": "inglês alemão francês espanhol italiano neerlandês português",
}
_ONLY: Final[Mapping[str, str]] = {
    "en": "I am sorry, I can only answer in {0}. Could you write your question in {0}, please?",
    "de": (
        "Es tut mir leid, ich kann nur auf {0} antworten. Könnten Sie Ihre Frage bitte auf "
        "{0} stellen?"
    ),
    "fr": (
        "Je suis désolé, je ne peux répondre qu'en {0}. Pourriez-vous écrire votre question "
        "en {0}, s'il vous plaît ?"
    ),
    "es": (
        "Lo siento, solo puedo responder en {0}. ¿Podría escribir su pregunta en {0}, por favor?"
    ),
    "it": (
        "Mi dispiace, posso rispondere solo in {0}. Potrebbe scrivere la sua domanda in {0}, "
        "per favore?"
    ),
    "nl": (
        "Het spijt me, ik kan alleen in het {0} antwoorden. Kunt u uw vraag in het {0} stellen?"
    ),
    "pt": (
        "Lamento, só consigo responder em {0}. Poderia escrever a sua pergunta em {0}, por favor?"
    ),
}
_NOTHING_FOUND: Final[Mapping[str, str]] = {
    "en": (
        "I could not find that in the information I have from {shop}, and I would rather not "
        "guess. Could you ask it in other words?"
    ),
    "de": (
        "Dazu habe ich in den Informationen von {shop} nichts gefunden, und raten möchte ich "
        "nicht. Könnten Sie es anders formulieren?"
    ),
    "fr": (
        "Je n'ai rien trouvé à ce sujet dans les informations de {shop}, et je préfère ne pas"
        " deviner. Pourriez-vous reformuler ?"
    ),
    "es": (
        "No he encontrado nada sobre eso en la información de {shop} y prefiero no adivinar. "
        "¿Podría decirlo con otras palabras?"
    ),
    "it": (
        "Non ho trovato nulla su questo nelle informazioni di {shop} e preferisco non "
        "indovinare. Potrebbe dirlo con altre parole?"
    ),
    "nl": (
        "Ik heb daarover niets gevonden in de informatie van {shop}, en ik wil niet gokken. "
        "Kunt u het anders vragen?"
    ),
    "pt": (
        "Não encontrei nada sobre isso nas informações de {shop} e prefiro não adivinhar. "
        "Poderia perguntar por outras palavras?"
    ),
}


@cache
def _identifier() -> LanguageIdentifier:
    """Read once per process: it takes half a second."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(LANGUAGES)
    return identifier


class Languages:
    """Tells languages apart."""

    def __init__(self) -> None:
        self._identifier = _identifier()

    def other_than(self, shop_language: str, text: str) -> str | None:
        """The language of the text if it is clearly not the shop's, else None."""
        text = text[:LOOK_AT]
        letters = sum(character.isalpha() for character in text)
        words = sum(any(c.isalpha() for c in word) for word in text.split())
        spaced = text.isascii() or words > 1
        if letters < MIN_LETTERS or (spaced and words < MIN_WORDS):
            return None
        if shop_language not in LANGUAGES:
            return None
        ranked: dict[str, float] = dict(self._identifier.rank(text))
        best = next(iter(ranked))
        sure = ranked[best] >= MIN_PROBABILITY
        return best if sure and ranked[best] > MIN_MARGIN * ranked[shop_language] else None


def only_this_language(shop_language: str, language: str) -> str:
    """The answer to a visitor who writes another language: in that one where we have it, else in
    English.
    """
    if shop_language not in _TOLD:
        return _ONLY["en"].format(f"“{shop_language}”")
    spoken = language if language in _TOLD else "en"
    return _ONLY[spoken].format(_NAMES[spoken].split()[_TOLD.index(shop_language)])


def nothing_found(shop_language: str, shop_name: str) -> str:
    """The answer when no passage fits."""
    return _NOTHING_FOUND.get(shop_language, _NOTHING_FOUND["en"]).format(shop=shop_name)
