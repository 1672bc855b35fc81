"""Personal data out of texts before they become training data: e-mail, card, IBAN, phone.

Knows no names and no addresses (those need a detector) and only digits written as digits. What the
shop itself publishes in its passages is not personal: such values stay, or the policy would learn
to write a placeholder for the shop's own number. A number that is called an order, a ticket, a
model is no phone, however long. Invariant: redacting a redacted text changes nothing.
"""

import re
from collections.abc import Collection, Iterable

EMAIL, CARD, IBAN, PHONE = "[email]", "[card]", "[iban]", "[phone]"

# Spaces that do not break and the like are read as plain ones: sign for sign, so places stay.
_PLAIN = str.maketrans(dict.fromkeys("\t\u00a0\u2007\u2009\u202f", " ") | {"\u2011": "-"})
_EMAIL = re.compile(r"[\w.%+'-]+@[^\W_][\w-]*(?:\.[\w-]+)*\.[^\W\d_]{2,}")
_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}")
# A new line goes on with a card only in fours: other columns of numbers are sizes or amounts.
_DIGIT_RUN = re.compile(r"(?<![\d.,])\d+(?:[ -]{1,2}\d+|(?<=\d{4})[ \r]?\n\d{4})*(?!\d)")
_CHUNK = re.compile(r"\d+")
_PHONE = re.compile(
    r"""(?<![\w.,/+-])(?<!\d:)(?:
        (?:\+|00)\d(?:[ ()./\u2013-]{0,3}\d){7,14}        # international: 8 to 15 digits
      | \(?0\d(?:[ ()./\u2013-]{0,3}\d){7,12}             # national with its trunk zero
      | (?:1[ .-])?(?:\(\d{3}\)[ ]?|\d{3}[ .-])\d{3}[ .-]\d{4}   # North America
      | \d{3}-\d{4}                                       # North America, local
      | \d{10,11}                                         # bare
    )(?![\w/]|[.,:-]\d)""",
    re.VERBOSE,
)
_THING = r"""(?<![\w.@-])(?:order|ticket|booking|reservation|invoice|serial|model|part|sku|article
    |item|tracking|parcel|reference|ref)s?"""
_NUMBER_OF = re.compile(  # right before a number that is no phone, however it is written
    rf"""{_THING}(?:[ -](?:no|nr|number|ref|reference|id|code)\b\.?(?:[ ]is)?[ :#]*
        |[ ]is[ ]|[ ]?[:#][ :#]*)[ ]?$""",
    re.VERBOSE | re.IGNORECASE,
)
_MAYBE_NUMBER_OF = re.compile(rf"(?:{_THING}[ ]+|\#)$", re.VERBOSE | re.IGNORECASE)
_PHONE_OF = re.compile(  # "my phone is #...", "call me at #..."
    r"""\b(?:phone|cell|mobile|whatsapp|tel|telephone|number|call|ring|text|reach|me|at|on|my)
        (?:[ ](?:is|no|number)\b)*[ .:]*\#$""",
    re.VERBOSE | re.IGNORECASE,
)
_WORDS_BEFORE = 40  # more letters than the longest such words have

# fmt: off
# Lengths from the SWIFT IBAN registry; a country that is missing is not looked for.
_IBAN_LENGTHS = {
    country: int(length)
    for length, countries in (
        ("15", "NO"), ("16", "BE"), ("18", "DK FI FO GL NL SD"), ("19", "MK SI"),
        ("20", "AT BA EE KZ LT LU XK"), ("21", "CH HR LI LV"),
        ("22", "BG BH CR DE GB GE IE ME RS VA"),
        ("23", "AE GI IL IQ OM TL"), ("24", "AD CZ ES MD PK RO SA SE SK TN VG"), ("25", "LY PT ST"),
        ("26", "IS TR"), ("27", "BI DJ FR GR IT MC MR SM"),
        ("28", "AL AZ BY CY DO GT HU LB NI PL SV"),
        ("29", "BR EG PS QA UA"), ("30", "JO KW MU"), ("31", "MT SC"), ("32", "LC"), ("33", "RU"),
    )
    for country in countries.split()
}
# fmt: on


def luhn_valid(digits: str) -> bool:
    """Whether the last digit is the check digit of ISO/IEC 7812 (Luhn)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban_valid(iban: str) -> bool:
    """Whether an IBAN (no spaces) has its country's length and leaves 1 modulo 97 (ISO 13616)."""
    iban = iban.upper()
    if _IBAN_LENGTHS.get(iban[:2]) != len(iban) or not (iban.isascii() and iban.isalnum()):
        return False
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97 == 1


def public_values(texts: Iterable[str]) -> frozenset[str]:
    """Contacts that `texts` publish, for `redact` to spare."""
    return frozenset(_canonical(text[a:b]) for text in texts for a, b, _ in _findings(text))


def redact(text: str, spared: Collection[str] = ()) -> str:
    """`text` with placeholders for personal data, but for `spared` ones (see `public_values`)."""
    pieces, end = [], 0
    for start, stop, placeholder in _findings(text):
        if _canonical(text[start:stop]) in spared:
            continue
        pieces += [text[end:start], placeholder]
        end = stop
    return "".join([*pieces, text[end:]])


def personal_data(text: str) -> tuple[str, ...]:
    """The pieces of `text` that `redact` would replace, in order."""
    return tuple(text[start:stop] for start, stop, _ in _findings(text))


def _findings(text: str) -> list[tuple[int, int, str]]:
    """Spans in order, none overlapping; where two kinds claim a place the more specific wins."""
    text = text.translate(_PLAIN)
    found: list[tuple[int, int, str]] = []
    for find, placeholder in ((_emails, EMAIL), (_ibans, IBAN), (_cards, CARD), (_phones, PHONE)):
        while spans := find(text):
            for start, stop in spans:
                found.append((start, stop, placeholder))
                # what is around it meets a bracket, as in the redacted text: look again
                text = f"{text[:start]}[{'.' * (stop - start - 2)}]{text[stop:]}"
    return sorted(found)


def _emails(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _EMAIL.finditer(text)]


def _ibans(text: str) -> list[tuple[int, int]]:
    spans = []
    for match in _IBAN_START.finditer(text):
        length = _IBAN_LENGTHS.get(match.group()[:2].upper(), 0)
        signs, stop = "", match.start()
        while stop < len(text) and len(signs) < length:
            if text[stop].isascii() and text[stop].isalnum():
                signs += text[stop]
            elif not (text[stop].isspace() or text[stop] == "-"):
                break
            stop += 1
        if iban_valid(signs) and not text[stop : stop + 1].isalnum():
            spans.append((match.start(), stop))
    return spans


def _cards(text: str) -> list[tuple[int, int]]:
    """Whole chunks of digits, 13 to 19 together, with a valid check digit; the longest such range
    wins.

    A card is often followed by its expiry date or preceded by an order number, so every range of
    chunks is tried.
    """
    spans = []
    for run in _DIGIT_RUN.finditer(text):
        chunks = [match.span() for match in _CHUNK.finditer(text, *run.span())]
        first = 0
        while first < len(chunks):
            for last in range(min(first + 19, len(chunks)) - 1, first - 1, -1):
                start, stop = chunks[first][0], chunks[last][1]
                digits = re.sub(r"\D", "", text[start:stop])
                if 13 <= len(digits) <= 19 and luhn_valid(digits):
                    spans.append((start, stop))
                    first = last
                    break
            first += 1
    return spans


def _phones(text: str) -> list[tuple[int, int]]:
    """What looks like a phone and is not called another number."""
    found = _PHONE.finditer(text)
    return [match.span() for match in found if not _is_of_a_thing(match[0], _before(text, match))]


def _before(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - _WORDS_BEFORE) : match.start()]


def _is_of_a_thing(number: str, before: str) -> bool:
    """An order's, a ticket's, a model's. Where only the word or a # stands before it, a number that
    begins with 0 or is written in groups is a phone all the same; + and ( begin a phone only."""
    if number[0] in "+(":
        return False
    if _NUMBER_OF.search(before):
        return True
    grouped = " " in number or (number[0] == "0" and number.isdigit())
    maybe = _MAYBE_NUMBER_OF.search(before) and not _PHONE_OF.search(before)
    return bool(maybe) and not grouped


def _canonical(value: str) -> str:
    """What stays the same however a value is typed; phones by their last 7 digits, with or without
    country code.
    """
    if "@" in value:
        return value.lower()
    signs = re.sub(r"[^a-z0-9]", "", value.lower())
    return signs[-7:] if signs.isdigit() and len(signs) <= 15 else signs
