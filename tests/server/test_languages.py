"""Another language is noticed when it is certain; in doubt it is the shop's."""

import pytest

from amends.knowledge import Knowledge, folder_of
from amends.settings import Settings
from server.languages import Languages, nothing_found, only_this_language

CERTAIN = [
    ("de", "Wie lange dauert der Versand nach Deutschland?"),
    ("de", "Kann ich die Stiefel umtauschen, wenn sie nicht passen?"),
    ("fr", "Quel est le délai de livraison ?"),
    ("fr", "Hello, je voudrais retourner ma commande"),
    ("es", "¿Cuánto tarda el envío a España?"),
    ("it", "Quanto costa la spedizione in Italia?"),
    ("nl", "Hoe lang duurt de verzending naar Nederland?"),
    ("pt", "Quanto tempo demora a entrega no meu endereço em Lisboa?"),
    ("pl", "Czy mogę zwrócić towar?"),
    ("ru", "Сколько стоит доставка в Москву?"),
    ("ja", "配送にどのくらいかかりますか"),
    ("ar", "متى يصل طلبي إلى المنزل؟"),
]
DOUBTFUL = """
hi
thx
ok
Bonjour
Gracias
refund pls
order #12345 status??
yes please
no no no
latte espresso
espresso grinder warranty
Señor Vargas ordered it
my name is Jean-Pierre Dubois
Oxbarrow tent Cragmoor boots Pellan blanket
sourdough starter kit delivery Zürich
I live in Sao Paulo do you deliver
1234 5678 9012
😀😀😀
""".strip().splitlines()


@pytest.mark.parametrize(("language", "text"), CERTAIN)
def test_a_clear_sentence_in_another_language_is_noticed(language: str, text: str) -> None:
    assert Languages().other_than("en", text) == language
    assert Languages().other_than(language, text) is None


@pytest.mark.parametrize("text", DOUBTFUL)
def test_short_and_uncertain_texts_are_the_shops_language(text: str) -> None:
    assert Languages().other_than("en", text) is None


def test_no_question_of_the_example_shop_is_taken_for_another_language() -> None:
    knowledge = Knowledge.load(folder_of(Settings(knowledge=None)))
    languages = Languages()
    taken = [q.question for q in knowledge.questions if languages.other_than("en", q.question)]
    assert taken == []


def test_a_shop_of_a_language_we_cannot_tell_answers_everything() -> None:
    assert Languages().other_than("eu", "Where is my order, please?") is None


def test_the_visitor_is_told_in_their_language_which_one_is_answered() -> None:
    assert "auf Englisch" in only_this_language("en", "de")
    assert "en anglais" in only_this_language("en", "fr")
    assert "in German" in only_this_language("de", "ja")
    assert "“fi”" in only_this_language("fi", "de")
    for language in ("en", "de", "fr", "es", "it", "nl", "pt"):
        assert only_this_language("nl", language)
        assert "Tarn" in nothing_found(language, "Tarn")
