"""Tokenizer kinds and sentences to train them on."""

KINDS = ("word", "bpe", "wordpiece", "unigram")
# Each sentence occurs twice, because words seen once are not learned.
ENGLISH = 2 * [
    "The house is red, isn't it?",
    "The old man reads a book.",
    "The book (a red one) is old.",
    'She said: "Well done!"',
    "It costs 3.50 euros at 10:30.",
    "A well-known man is in the house.",
]
GERMAN = 2 * [
    "Das Haus ist rot, nicht wahr?",
    "Der alte Mann liest ein Buch.",
    "Das Buch (ein rotes) ist alt.",
    "Sie sagte: „Gut gemacht!“",
    "Es kostet 3,50 Euro um 10:30.",
    "Ein schöner Mann ist im Haus.",
]
