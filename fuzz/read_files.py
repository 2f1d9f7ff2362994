"""Coverage-guided fuzzing of what reads files: whatever the bytes are, a reader gives good pairs or one InputError.

    pip install -r requirements-fuzz.txt && python fuzz/read_files.py -max_total_time=600 fuzz/corpus

The folder keeps what reaches new code, for the next time. A finding is printed with its traceback, and the bytes that
lead to it are kept in a file ``crash-...``, which the program takes in place of the folder to show it again.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import lzma
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))
with atheris.instrument_imports(include=["transformer_jax"]):
    from transformer_jax.commands.translate import read as read_lines
    from transformer_jax.config import Config, TokenizerConfig, load_config, save_config
    from transformer_jax.data import sources
    from transformer_jax.data.sources import Pair, open_pairs
    from transformer_jax.data.tokenizers import Tokenizer, train_tokenizers
    from transformer_jax.errors import InputError

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
sources.LONGEST = 4096  # So that a line that is too long is found.


def require_one_line(error: InputError) -> None:
    """As all messages are."""
    assert "\n" not in str(error)


def read(locator: str) -> None:
    """Read the same file twice, once with bad rows refused, once with them skipped."""
    results: dict[str, list[Pair]] = {}
    for on_error in ("refuse", "skip"):
        pairs = open_pairs(locator, "en", "de", "train", on_error)  # type: ignore[arg-type]
        try:
            results[on_error] = list(pairs)
        except InputError as error:
            require_one_line(error)
            continue
        assert results[on_error], "no pairs are an error"
        for text in (text for pair in results[on_error] for text in pair):
            assert text.strip()
            assert "\0" not in text
            text.encode()
    if "refuse" in results:
        assert results["skip"] == results["refuse"], "what is good is not skipped"


def text(content: bytes) -> None:
    """Two files, of which the second begins after the first byte 254, which no UTF-8 has."""
    english, _, german = content.partition(b"\xfe")
    (FOLDER / "x.en").write_bytes(english)
    (FOLDER / "x.de").write_bytes(german)
    read(f"{FOLDER}/x.{{lang}}")


def file(suffix: str) -> Callable[[bytes], None]:
    """One file, as it is or, behind a NUL, to be compressed first."""
    compress = {".gz": lambda data: gzip.compress(data, 1), ".xz": lambda data: lzma.compress(data, preset=0)}

    def one(content: bytes) -> None:
        path = FOLDER / f"x{suffix}"
        packed = content[:1] == b"\0" and path.suffix in compress
        path.write_bytes(compress[path.suffix](content[1:]) if packed else content)
        read(str(path))

    return one


def lines(content: bytes) -> None:
    """What is to be translated: as many lines as there are line feeds, and one more for what follows the last."""
    found = list(read_lines(io.BytesIO(content), "x"))
    assert len(found) == len(content.removesuffix(b"\n").split(b"\n")) if content else not found
    for line in found:
        assert "\n" not in line
        line.encode()


def run_file(load: Callable[[Path], object]) -> Callable[[bytes], None]:
    """A file of a run folder."""

    def one(content: bytes) -> None:
        (FOLDER / "x.json").write_bytes(content)
        load(FOLDER / "x.json")

    return one


TARGETS: list[Callable[[bytes], None]] = [
    text,
    lines,
    *map(file, (".tsv", ".tsv.gz", ".tsv.xz", ".jsonl", ".jsonl.gz", ".parquet")),
    run_file(load_config),
    run_file(Tokenizer.load),
]


def one_input(data: bytes) -> None:
    """The first byte chooses the reader."""
    if not data:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except InputError as error:
        require_one_line(error)


def write_seeds(folder: Path) -> None:
    """A good file of each kind to begin with."""
    import pyarrow
    import pyarrow.parquet

    rows = [{"en": "The house is red.", "de": "Das Haus ist rot."}, {"en": "日本 🙂", "de": "Japan 🙂"}]
    tsv = "".join(f"{row['en']}\t{row['de']}\n" for row in rows).encode()
    jsonl = "".join(json.dumps(row) + "\n" + json.dumps({"translation": row}) + "\n" for row in rows).encode()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), FOLDER / "x.parquet")
    save_config(Config(), FOLDER / "x.json")
    words = [text for row in rows for text in row.values()] * 2
    tokenizers = train_tokenizers(TokenizerConfig("word", size=20), words, words)
    sides = ["\n".join(row[language] for row in rows).encode() for language in ("en", "de")]
    contents = [
        *(
            b"\xfe".join(sides),
            b"\xef\xbb\xbfOne\r\n\nTw\xf6\n",
            tsv,
            gzip.compress(tsv),
            lzma.compress(tsv),
            jsonl,
            gzip.compress(jsonl),
        ),
        *((FOLDER / "x.parquet").read_bytes(), (FOLDER / "x.json").read_bytes(), tokenizers.source.to_json().encode()),
    ]
    for number, content in enumerate(contents):
        (folder / f"seed{number}").write_bytes(bytes([number]) + content)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if not name.startswith("-") and not Path(name).is_file():
            Path(name).mkdir(parents=True, exist_ok=True)
            write_seeds(Path(name))
    logging.disable()
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
