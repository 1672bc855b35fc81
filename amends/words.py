"""A text as the words that retrieval compares: lower case, no stop words, no inflection.

Pure. Invariant: documents and questions pass through the same function. For English there is a
light stemmer (plural, -ing, -ed, -ly) and a short list of words that mean one thing in a shop;
other languages get stop words only.
"""

import re
import unicodedata

from bm25s import stopwords

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
# Question words and courtesies carry no topic; bm25s' list of 33 English words leaves them in.
_ENGLISH = frozenset(stopwords.STOPWORDS_EN_PLUS) | frozenset(
    "please hello hi hey thanks thank want would could like need get got tell know help "
    "question ask im ive id dont doesnt cant whats hows wheres thing things much many make made "
    "let say said really still anything something someone ever already also yet way today "
    "tomorrow long".split()
)
_SAME_IN_A_SHOP = (
    ("return", "back"),
    ("time", "period", "window", "duration"),
    ("exchange", "swap"),
    ("delivery", "ship", "shipment", "courier", "postage"),
    ("abroad", "overseas", "international", "internationally", "foreign"),
    ("gift", "present"),
    ("broken", "broke", "damaged", "faulty", "defective", "defect"),
    ("phone", "call", "telephone", "ring"),
    ("cost", "price", "fee", "charge", "expensive", "pay", "payment", "paid"),
    ("colour", "color"),
    ("parcel", "package", "packet"),
    ("cancel", "cancellation"),
    ("clothing", "clothes"),
    ("email", "mail"),
    ("discount", "voucher", "coupon", "code", "promo"),
    ("refund", "money"),
    ("clean", "wash"),
    ("repair", "fix", "mend"),
    ("shop", "store"),
    ("buy", "purchase", "bought"),
    ("missing", "lost", "arrive"),
    ("invoice", "receipt"),
)
_STOP_WORDS: dict[str, frozenset[str]] = {
    "en": _ENGLISH,
    "de": frozenset(stopwords.STOPWORDS_GERMAN),
    "nl": frozenset(stopwords.STOPWORDS_DUTCH),
    "fr": frozenset(stopwords.STOPWORDS_FRENCH),
    "es": frozenset(stopwords.STOPWORDS_SPANISH),
    "pt": frozenset(stopwords.STOPWORDS_PORTUGUESE),
    "it": frozenset(stopwords.STOPWORDS_ITALIAN),
    "ru": frozenset(stopwords.STOPWORDS_RUSSIAN),
    "sv": frozenset(stopwords.STOPWORDS_SWEDISH),
    "no": frozenset(stopwords.STOPWORDS_NORWEGIAN),
    "da": frozenset(stopwords.STOPWORDS_DANISH),
    "tr": frozenset(stopwords.STOPWORDS_TURKISH),
}


def words_of(text: str, language: str) -> list[str]:
    """The topic words of a text in order, repeated where they repeat."""
    stop = _STOP_WORDS.get(language, frozenset())
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\u2019", "'")
    found = (word.removesuffix("'s").replace("'", "") for word in _WORD.findall(plain))
    kept = (word for word in found if word not in stop and (len(word) > 1 or word.isdigit()))
    if language != "en":
        return list(kept)
    stems = (_stem(word) for word in kept)
    return [_ONE_FOR_MANY.get(stem, stem) for stem in stems]


def _stem(word: str) -> str:
    if len(word) <= 3 or word.isdigit():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) >= 3 and any(vowel in stem for vowel in "aeiouy"):
            word = stem
            break
    # So that ship and shipping, cancel and cancelled, exchange and exchanging meet.
    if word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] if len(word) > 4 and word[-1] in "ey" else word


_ONE_FOR_MANY = {_stem(word): _stem(words[0]) for words in _SAME_IN_A_SHOP for word in words}
