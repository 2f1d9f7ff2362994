"""Coverage-guided fuzzing of the file readers: any input must be read as valid data or raise InputError.

    pip install -r requirements-fuzz.txt && python fuzz/read_files.py -max_total_time=600 fuzz/corpus

Inputs that reach new code are saved in the directory and reused by later runs. A failure prints a traceback and saves
its input as ``crash-...``. To reproduce the failure, pass that file instead of the directory.
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
    from transformer_jax.commands.streams import decode_lines
    from transformer_jax.config import Config, TokenizerConfig, load_config, save_config
    from transformer_jax.data import normalization, text_files
    from transformer_jax.data.encodings import SAMPLE_BYTES, detect_wide_encoding
    from transformer_jax.data.run_tokenizers import train_tokenizers
    from transformer_jax.data.sources import Pair, open_pairs
    from transformer_jax.data.tokenizers import Tokenizer
    from transformer_jax.errors import InputError

DIRECTORY = Path(tempfile.mkdtemp(prefix="fuzz"))
text_files.MAX_LINE_BYTES = 4096  # Low enough for the fuzzer to exceed.


def require_one_line(error: InputError) -> None:
    """Fail if the error message has more than one line."""
    assert "\n" not in str(error)


def read_pairs(locator: str) -> None:
    """Read a file twice, refusing invalid rows the first time and skipping them the second."""
    results: dict[str, list[Pair]] = {}
    for on_error in ("refuse", "skip"):
        pairs = open_pairs(locator, "en", "de", "train", on_error)  # type: ignore[arg-type]
        try:
            results[on_error] = list(pairs)
        except InputError as error:
            require_one_line(error)
            continue
        assert results[on_error], "a file without pairs must raise InputError"
        for text in (text for pair in results[on_error] for text in pair):
            assert text.strip()
            assert "\0" not in text
            text.encode()
    if "refuse" in results:
        assert results["skip"] == results["refuse"], "on_error='skip' must keep all rows of a valid file"


def read_text_pair(content: bytes) -> None:
    """Split the content at its first byte 254, which is invalid in UTF-8, and read the parts as parallel text files."""
    english, _, german = content.partition(b"\xfe")
    (DIRECTORY / "x.en").write_bytes(english)
    (DIRECTORY / "x.de").write_bytes(german)
    read_pairs(f"{DIRECTORY}/x.{{lang}}")


def file_target(suffix: str) -> Callable[[bytes], None]:
    """Return a target that writes its input to a file and reads sentence pairs from the file.

    For ``.gz`` and ``.xz``, an input that starts with NUL is written without that byte. Other inputs are compressed.
    """
    compress = {".gz": lambda data: gzip.compress(data, 1), ".xz": lambda data: lzma.compress(data, preset=0)}

    def read_content(content: bytes) -> None:
        path = DIRECTORY / f"x{suffix}"
        is_raw = content[:1] == b"\0" and path.suffix in compress
        path.write_bytes(compress[path.suffix](content[1:]) if is_raw else content)
        read_pairs(str(path))

    return read_content


def read_input_lines(content: bytes) -> None:
    """Read lines to translate and check that they are split only at line feeds."""
    lines = list(decode_lines(io.BytesIO(content), "x"))
    if detect_wide_encoding(content[:SAMPLE_BYTES]) is None:
        assert len(lines) == len(content.removesuffix(b"\n").split(b"\n")) if content else not lines
    for line in lines:
        assert "\n" not in line
        line.encode()


def run_file_target(load: Callable[[Path], object]) -> Callable[[bytes], None]:
    """Return a target that writes its input to a file of a run directory and calls ``load`` on the file."""

    def load_content(content: bytes) -> None:
        (DIRECTORY / "x.json").write_bytes(content)
        load(DIRECTORY / "x.json")

    return load_content


def read_normalization(content: bytes) -> None:
    """Read the normalization of a run directory and normalize a text with it."""
    (DIRECTORY / normalization.FILE_NAME).write_bytes(content)
    normalizer = normalization.Normalization.load(DIRECTORY).library_normalizer()
    normalizer.normalize_str("« I don’t – “know” …»")


TARGETS: list[Callable[[bytes], None]] = [
    read_text_pair,
    read_input_lines,
    *map(file_target, (".tsv", ".tsv.gz", ".tsv.xz", ".jsonl", ".jsonl.gz", ".parquet")),
    run_file_target(load_config),
    run_file_target(Tokenizer.load),
    read_normalization,
]


def run_target(data: bytes) -> None:
    """Run one fuzz target. The first byte selects the target; the remaining bytes are its input."""
    if not data:
        return
    try:
        TARGETS[data[0] % len(TARGETS)](data[1:])
    except InputError as error:
        require_one_line(error)


def write_seeds(directory: Path) -> None:
    """Write one seed input per fuzz target."""
    import pyarrow
    import pyarrow.parquet

    rows = [{"en": "The house is red.", "de": "Das Haus ist rot."}, {"en": "日本 🙂", "de": "Japan 🙂"}]
    tsv = "".join(f"{row['en']}\t{row['de']}\n" for row in rows).encode()
    jsonl = "".join(json.dumps(row) + "\n" + json.dumps({"translation": row}) + "\n" for row in rows).encode()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), DIRECTORY / "x.parquet")
    save_config(Config(), DIRECTORY / "x.json")
    words = [text for row in rows for text in row.values()] * 2
    tokenizers = train_tokenizers(TokenizerConfig("word", size=20), list(map(Pair, words, words)))
    normalization.Normalization.learn(["I don't “know” - …"]).save(DIRECTORY)
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
        *(
            (DIRECTORY / "x.parquet").read_bytes(),
            (DIRECTORY / "x.json").read_bytes(),
            tokenizers.source.to_json().encode(),
            (DIRECTORY / normalization.FILE_NAME).read_bytes(),
        ),
    ]
    for index, content in enumerate(contents):
        (directory / f"seed{index}").write_bytes(bytes([index]) + content)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if not argument.startswith("-") and not Path(argument).is_file():
            Path(argument).mkdir(parents=True, exist_ok=True)
            write_seeds(Path(argument))
    logging.disable()
    atheris.Setup(sys.argv, run_target)
    atheris.Fuzz()
