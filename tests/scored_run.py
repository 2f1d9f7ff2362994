"""The files of a run that has scored its test set, written by hand."""

import dataclasses
import json

from transformer_jax.config import Config

REFERENCES = [
    *("Der alte Hund schläft vor dem Haus.", "Wo ist der Bahnhof?", "Sie kauft heute frisches Brot.", "Es regnet."),
    *("Mein Bruder wohnt in Berlin.", "Der Zug kommt um drei Uhr.", "Ich habe keine Zeit.", "Die Katze trinkt Milch."),
    *("Das Museum ist geschlossen.", "Wir essen um sieben.", "Er liest ein Buch.", "Das Wasser ist kalt.", "Ja."),
]
SOURCES = [f"source {number}" for number in range(len(REFERENCES))]
GOOD = [line.replace("der", "die") for line in REFERENCES]
BAD = [line.replace("e", "a").replace("ist", "war") for line in REFERENCES]


def write_scored_run(path, hypotheses, config=None, sources=SOURCES, references=REFERENCES):
    """Write the files and return the path."""
    path.mkdir(parents=True)
    for name, lines in (("src", sources), ("hyp", hypotheses), ("ref", references)):
        (path / f"test.{name}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    results = {"recipe": "phrasebook", "config": dataclasses.asdict(config or Config()), "best_step": 3}
    (path / "results.json").write_text(json.dumps(results))
    return path
