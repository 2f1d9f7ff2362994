"""What the phrasebook model reads of text as people write it. docs/translation.md shows the translations."""

# ruff: noqa: E501

import json
from pathlib import Path

import pytest

from transformer_jax.data.learned_text import LearnedText
from transformer_jax.data.normalization import Normalization
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.decoding.parts import split_into_parts

READ = {
    "Good morning. Where is the station? I would like two tickets.": [
        "Good morning.",
        "Where is the station?",
        "I would like two tickets.",
    ],
    "The lemon is very sour. The pizza is very salty.": ["The lemon is very sour.", "The pizza is very salty."],
    "Where is the station?Where is the castle?": ["Where is the station?", "Where is the castle?"],
    "Thank you very much!!! The soup is very good!": ["Thank you very much!!!", "The soup is very good!"],
    "Is there any ham left? No? Then two tickets to Rome, please.": [
        "Is there any ham left?",
        "No?",
        "Then two tickets to Rome, please.",
    ],
    "I met Mr. Smith at 3 p.m. in Rome. He is tired.": ["I met Mr. Smith at 3 p.m. in Rome.", "He is tired."],
    "The exam is on Monday at a quarter past six.  The party is on the twentieth of June.": [
        "The exam is on Monday at a quarter past six.",
        "The party is on the twentieth of June.",
    ],
    "My aunt has invited them to the wedding. My uncle cannot come because he has to work. His sister is very tired today, and her husband is ill. They left at a quarter past three. The city is smaller than the forest.": [
        "My aunt has invited them to the wedding.",
        "My uncle cannot come because he has to work.",
        "His sister is very tired today, and her husband is ill.",
        "They left at a quarter past three.",
        "The city is smaller than the forest.",
    ],
    "1. The lemon is sour. 2. The pizza is salty.": ["=1.", "The lemon is sour.", "=2.", "The pizza is salty."],
    "- The lemon is very sour.": ["=-", "The lemon is very sour."],
    "• Where is the station?": ["=•", "Where is the station?"],
    "The pizza is very salty :-)": ["The pizza is very salty", "=:-)"],
    "I don’t know.": ["I don't know."],
    "It is twelve o’clock.": ["It is twelve o'clock."],
    "It is twelve o`clock.": ["It is twelve o'clock."],
    "“Where is the station?”": ["=“", "Where is the station?", "=”"],
    "„Where is the station?“": ["=„", "Where is the station?", "=“"],
    "«Where is the station?»": ["=«", "Where is the station?", "=»"],
    "(Where is the station?)": ["=(", "Where is the station?", "=)"],
    "  Where is the station?": ["Where is the station?"],
    "Where is the station? ": ["Where is the station?"],
    "Where  is   the station?": ["Where is the station?"],
    "Where is the\u00a0station?": ["Where is the station?"],
    "Where\tis the station?": ["Where is the station?"],
    "Where is the sta\u00adtion?": ["Where is the station?"],
    "Where is\u200b the station?": ["Where is the station?"],
    "\ufeffWhere is the station?": ["Where is the station?"],
    "Where is the cafe\u0301?": ["Where is the café?"],
    "Where is the station? 🚂": ["Where is the station?", "=🚂"],
    "🙂 Thank you very much!": ["=🙂", "Thank you very much!"],
    "20/06/2026": ["=20/06/2026"],
    "3.5": ["=3.", "=5"],
    "12:30": ["=12:30"],
    "???": ["=???"],
    "🚂🚂": ["=🚂🚂"],
    "The twenty-fourth of February – a Monday – is my day.": ["The twenty-fourth of February - a Monday - is my day."],
    "The city is big—the forest is small.": ["The city is big - the forest is small."],
    "Wait… where is the station?": ["Wait... where is the station?"],
    "A non\u2011smoking room, please.": ["A non-smoking room, please."],
    "駅はどこですか。": ["=駅はどこですか", "=。"],
    "Где вокзал?": ["=Где вокзал?"],
    "My aunt has invited them to the wedding. My uncle cannot come because he has to work. The exam is on Monday at a quarter past six. We left at a quarter past three. The city is smaller than the forest. There are many old castles in Munich. The omelet with tuna costs five euros eighty. He has six nieces and a parrot. Thank you very much for the elegant suit. I think that the blouse is cheap. Is there a good restaurant near here? We have lost our bag. The lemon is very sour. See you on Monday, Paul!": [
        "My aunt has invited them to the wedding.",
        "My uncle cannot come because he has to work.",
        "The exam is on Monday at a quarter past six.",
        "We left at a quarter past three.",
        "The city is smaller than the forest.",
        "There are many old castles in Munich.",
        "The omelet with tuna costs five euros eighty.",
        "He has six nieces and a parrot.",
        "Thank you very much for the elegant suit.",
        "I think that the blouse is cheap.",
        "Is there a good restaurant near here?",
        "We have lost our bag.",
        "The lemon is very sour.",
        "See you on Monday, Paul!",
    ],
}
"""Text -> the sentences that the model reads. A part with "=" in front is copied."""
READ_AS_TYPED = [
    "a) The lemon is sour.",
    "The old castle",
    "The Old Castle",
    "Menu: soup, pizza and red wine",
    "Chapter 3: The station",
    "where is the station",
    "hello where is the station",
    "ok",
    "Yes!",
    "thx",
    "Where is the station??",
    "Where is the station ?",
    "Sooooo tired",
    "My bag... where is it?",
    "I don't know.",
    "It is twelve o'clock.",
    'He says "The soup is good."',
    "'Where is the station?'",
    "The “old” castle is big.",
    "Where is the café?",
    "I love 🍕 very much.",
    "The ticket costs 5 €.",
    "The ticket costs €5.",
    "See https://example.org/tickets?id=3 for the tickets.",
    "My e-mail is anna@example.org.",
    "The party is on 20 June 2026.",
    "50% of the tickets",
    "WHERE IS THE STATION?",
    "Where Is The Station?",
    "The well-known writer is tired.",
    "Wo ist der Bahnhof?",
    "The word 駅 means station.",
    "My name is Zoë Müller.",
    "asdf qwer zxcv",
    "Teh satiton is odl.",
    "Station",
    "Rome, please.",
    "because",
    "My uncle, my aunt, my sister, my brother, my cousin, my niece, my neighbor, my boss, my friend, my mother, my father, my grandmother, her husband, his wife and the old dog are very tired.",
    "I know that the gardener showed the letter to the painter because the painter has lost the letter that the writer sent to the farmer before the student washed the van and the photographer bought a blue coat for the concert in Rome",
]
TABLE = (Path(__file__).parent.parent.parent / "docs/translation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def phrasebook():
    """The tokenizer and the characters of a model trained on the phrasebook, with a small vocabulary."""
    sources = [pair.source for pair in open_pairs("phrasebook", "en", "de", "train")]
    tokenizer = Tokenizer.train("bpe", sources[:500], 400)
    tokenizer = tokenizer.with_normalization(Normalization.learn(sources[::10]))
    return tokenizer, LearnedText(tokenizer, "".join(sorted(set("".join(sources)))))


@pytest.mark.parametrize(
    ("text", "expected"), [*READ.items(), *((text, [text]) for text in READ_AS_TYPED)], ids=lambda value: None
)
def test_everyday_text_is_read_as_expected(text, expected, phrasebook):
    tokenizer, known = phrasebook
    [parts] = split_into_parts([text], tokenizer, "en", 10**6, True, known)
    assert [tokenizer.normalize(part.text) if part.ids else f"={part.text}" for part in parts] == expected
    assert "".join(part.text + part.blank for part in parts) == text.strip()


def test_the_table_in_the_documentation_has_these_texts():
    documented = {json.loads(f'"{cell}"') for cell in cells(TABLE)}
    assert documented == {*READ, *READ_AS_TYPED}
    assert len(documented) >= 60


def cells(page):
    """Return the first cell of each row of the table of everyday text."""
    table = page[page.index("| text |") :].splitlines()[2:]
    return [row.split(" | ")[0].removeprefix("| ") for row in table if row.startswith("| ")]
