"""Inflection of German and English words: articles, adjectives, nouns, verbs, numbers and clock times.

The cases are nominative 0, accusative 1, dative 2 and genitive 3. The genders are "m", "f", "n", and "p" for plurals.
The persons are "ich", "er" (he, she, it, a singular noun) and "wir" (we, they, polite Sie, a plural noun). The persons
"du" and "ihr" do not occur.
"""

from __future__ import annotations

NOMINATIVE, ACCUSATIVE, DATIVE, GENITIVE = range(4)

DEFINITE = {
    "m": ("der", "den", "dem", "des"),
    "f": ("die", "die", "der", "der"),
    "n": ("das", "das", "dem", "des"),
    "p": ("die", "die", "den", "der"),
}
RELATIVE = {
    "m": ("der", "den", "dem"),
    "f": ("die", "die", "der"),
    "n": ("das", "das", "dem"),
    "p": ("die", "die", "denen"),
}

STRONG = {
    "m": ("er", "en", "em", "es"),
    "f": ("e", "e", "er", "er"),
    "n": ("es", "es", "em", "es"),
    "p": ("e", "e", "en", "er"),
}
"""Endings of dieser and welcher. An adjective without an article differs only in the genitive (guten Weines)."""
MIXED = {**STRONG, "m": ("", "en", "em", "es"), "n": ("", "", "em", "es")}
"""Endings of ein, kein, mein, Ihr, unser."""

ADJECTIVE_WEAK = {
    "m": ("e", "en", "en", "en"),
    "f": ("e", "e", "en", "en"),
    "n": ("e", "e", "en", "en"),
    "p": ("en", "en", "en", "en"),
}
ADJECTIVE_MIXED = {**ADJECTIVE_WEAK, "m": ("er", "en", "en", "en"), "n": ("es", "es", "en", "en")}
ADJECTIVE_STRONG = {**STRONG, "m": ("er", "en", "em", "en"), "n": ("es", "es", "em", "en")}

IRREGULAR_PRESENT = {
    "sein": {"ich": "bin", "er": "ist", "wir": "sind"},
    "haben": {"ich": "habe", "er": "hat", "wir": "haben"},
    "werden": {"ich": "werde", "er": "wird", "wir": "werden"},
    "können": {"ich": "kann", "er": "kann", "wir": "können"},
    "müssen": {"ich": "muss", "er": "muss", "wir": "müssen"},
    "dürfen": {"ich": "darf", "er": "darf", "wir": "dürfen"},
    "wollen": {"ich": "will", "er": "will", "wir": "wollen"},
    "sollen": {"ich": "soll", "er": "soll", "wir": "sollen"},
    "sollten": {"ich": "sollte", "er": "sollte", "wir": "sollten"},
    "möchten": {"ich": "möchte", "er": "möchte", "wir": "möchten"},
    "wissen": {"ich": "weiß", "er": "weiß", "wir": "wissen"},
    "mögen": {"ich": "mag", "er": "mag", "wir": "mögen"},
    "tun": {"ich": "tue", "er": "tut", "wir": "tun"},
}
"""German verbs with an irregular present tense."""

CONTRACTIONS = {
    "in dem": "im",
    "an dem": "am",
    "zu dem": "zum",
    "zu der": "zur",
    "bei dem": "beim",
    "von dem": "vom",
    "in das": "ins",
}
"""Prepositions and definite articles that German contracts. "an das" is not contracted: sich an das Lied erinnern."""


def determiner(word: str, gender: str, case: int) -> str:
    """Return a determiner (der, ein, kein, mein, dieser, ...; "" for none) declined for gender and case."""
    if word == "der":
        return DEFINITE[gender][case]
    if word in ("dieser", "welcher"):
        return word[:-2] + STRONG[gender][case]
    return word + MIXED[gender][case] if word else ""


def adjective_ending(word: str, gender: str, case: int) -> str:
    """Return the ending of an adjective after the determiner ``word``: weak, mixed or, without a determiner, strong."""
    if word in ("der", "dieser", "welcher"):
        return ADJECTIVE_WEAK[gender][case]
    return (ADJECTIVE_MIXED if word else ADJECTIVE_STRONG)[gender][case]


def dative_plural(plural: str) -> str:
    """Return the dative plural, which adds -n unless the plural ends in -n or -s."""
    return plural if plural.endswith(("n", "s")) else plural + "n"


def genitive(noun: str, plural: str) -> str:
    """Return the genitive of a strong masculine or neuter noun: -es after a sibilant or a short word, otherwise -s.

    A short word has one syllable, no plural in -s (des Parks) and no sonorant at its end (des Turms).
    """
    if plural == noun + "s":
        return noun + "s"
    if noun.endswith("nis"):
        return noun + "ses"
    if noun.endswith(("s", "ß", "z", "x", "st", "sch")):
        return noun + "es"
    groups = "".join(letter if letter in "aeiouyäöü" else " " for letter in noun.lower()).split()
    short = len(groups) == 1 and noun[-1].lower() not in "aeiouyäöühwlmnr"
    return noun + ("es" if short else "s")


def german_present(infinitive: str, person: str, er: str = "") -> str:
    """Return the present tense of a German verb without its separable prefix.

    er: the er-form if it is irregular.
    """
    if infinitive in IRREGULAR_PRESENT:
        return IRREGULAR_PRESENT[infinitive][person]
    if person == "wir":
        return infinitive
    stem = infinitive[:-2] if infinitive.endswith("en") else infinitive[:-1]
    if person == "ich":
        return (stem[:-2] + "l" if infinitive.endswith("eln") else stem) + "e"
    if er:
        return er
    nasal = stem[-1] in "mn" and stem[-2] not in "aeiouäöülrhmn"
    return stem + ("et" if stem[-1] in "td" or nasal else "t")


def english_present(verb: str, person: str) -> str:
    """Return the present tense of an English verb, which may be followed by other words ("wait for")."""
    first, _, rest = verb.partition(" ")
    if first == "be":
        first = {"ich": "am", "er": "is", "wir": "are"}[person]
    elif person == "er" and first not in ("can", "must", "will", "should", "may", "would"):
        first = {"have": "has", "do": "does", "go": "goes"}.get(first) or english_plural(first)
    return f"{first} {rest}".rstrip()


def english_plural(word: str) -> str:
    """Return the regular plural of a noun, or the third person singular of a verb."""
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


DOUBLING = ("put", "sit", "plan", "swim", "forget", "cut", "get", "run", "jog", "pet")
"""English verbs that double their last letter before -ing and -ed."""


def english_ing(verb: str) -> str:
    """Return the -ing form of an English verb, which may be followed by other words."""
    first, _, rest = verb.partition(" ")
    if first in DOUBLING:
        first += first[-1]
    elif first == "lie":
        first = "ly"
    elif first.endswith("e") and not first.endswith("ee") and first != "be":
        first = first[:-1]
    return f"{first}ing {rest}".rstrip()


def english_past(verb: str) -> str:
    """Return the regular -ed form of an English verb, which may be followed by other words."""
    first, _, rest = verb.partition(" ")
    if first in DOUBLING:
        first += first[-1]
    if first.endswith("e"):
        first += "d"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ied"
    else:
        first += "ed"
    return f"{first} {rest}".rstrip()


def article(phrase: str) -> str:
    """Return the indefinite article of a phrase: "a" or "an"."""
    starts_like_you = phrase.startswith(("uni", "use"))
    return "an" if phrase[0].lower() in "aeiou" and not starts_like_you else "a"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SMALL_ENGLISH = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
SMALL_GERMAN = _words(
    "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn "
    "achtzehn neunzehn"
)
TENS_ENGLISH = _words("_ _ twenty thirty forty fifty sixty seventy eighty ninety")
TENS_GERMAN = _words("_ _ zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig")


def number(value: int) -> tuple[str, str]:
    """Return a number from 2 to 99 in English and in German words."""
    if value < 20:
        return SMALL_ENGLISH[value], SMALL_GERMAN[value]
    tens, ones = divmod(value, 10)
    if not ones:
        return TENS_ENGLISH[tens], TENS_GERMAN[tens]
    return f"{TENS_ENGLISH[tens]}-{SMALL_ENGLISH[ones]}", f"{SMALL_GERMAN[ones]}und{TENS_GERMAN[tens]}"


def ordinal(value: int) -> tuple[str, str]:
    """Return the ordinal of a day of the month, 1 to 31, as in "on the third of" and "am dritten"."""
    irregular = {1: "first", 2: "second", 3: "third", 5: "fifth", 8: "eighth", 9: "ninth", 12: "twelfth"}
    english, german = number(value)
    german = {1: "ersten", 3: "dritten", 7: "siebten", 8: "achten"}.get(
        value, german + ("ten" if value < 20 else "sten")
    )
    head, hyphen, last = english.rpartition("-")
    ones = value if value < 20 else value % 10
    if ones in irregular and value % 10:
        last = irregular[ones]
    else:
        last = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return head + hyphen + last, german


def clock(hour: int, minute: int) -> tuple[str, str]:
    """Return a time as spoken on the twelve-hour clock. The hour is 1 to 12, the minute a multiple of 5."""
    hour_english = SMALL_ENGLISH[hour]
    following = hour % 12 + 1
    next_english = SMALL_ENGLISH[following]
    # One o'clock is "ein" only before "Uhr": "ein Uhr", but "halb eins".
    hour_german, next_german = ("eins" if value == 1 else SMALL_GERMAN[value] for value in (hour, following))
    if minute == 0:
        return f"{hour_english} o'clock", f"{SMALL_GERMAN[hour]} Uhr"
    if minute == 15:
        return f"a quarter past {hour_english}", f"Viertel nach {hour_german}"
    if minute == 30:
        return f"half past {hour_english}", f"halb {next_german}"
    if minute == 45:
        return f"a quarter to {next_english}", f"Viertel vor {next_german}"
    if minute < 30:
        minutes_english, minutes_german = number(minute)
        return f"{minutes_english} past {hour_english}", f"{minutes_german} nach {hour_german}"
    minutes_english, minutes_german = number(60 - minute)
    return f"{minutes_english} to {next_english}", f"{minutes_german} vor {next_german}"


def price(euros: int, cents: int) -> tuple[str, str]:
    """Return a price of at least two euros, as in "three euros fifty" and "drei Euro fünfzig"."""
    english, german = number(euros)
    english, german = f"{english} euros", f"{german} Euro"
    if cents:
        cents_english, cents_german = number(cents)
        english, german = f"{english} {cents_english}", f"{german} {cents_german}"
    return english, german
