"""A prepared corpus equals the encoded text, is reused only while it is valid, and is never incomplete."""

import dataclasses
import errno
import gzip
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from transformer_jax.config import DataConfig
from transformer_jax.data import batches, prepared
from transformer_jax.data.batches import encode_pairs
from transformer_jax.data.prepared import prepare_pairs
from transformer_jax.data.run_tokenizers import Tokenizers
from transformer_jax.data.sources import open_pairs
from transformer_jax.data.tokenizers import Tokenizer
from transformer_jax.errors import InputError, RunError

LINES = ["a b\tb c", "c\ta", "a b c a\tb", "b a\tc c"]


def tokenizers(words="a b c"):
    tokenizer = Tokenizer.train("word", [words] * 2, size=11)
    return Tokenizers(tokenizer, tokenizer)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return the config for a file of four pairs, one of them too long, and set a directory for prepared corpora."""
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "corpora"))
    (tmp_path / "pairs.tsv").write_text("\n".join(LINES))
    return DataConfig(train=str(tmp_path / "pairs.tsv"), max_length=4)


def open_text(data):
    return open_pairs(data.train, data.source, data.target, "train", data.on_error)


def prepare(data, words="a b c"):
    """Prepare the training text like a start that knows its identity. Return the pairs, and whether it was read."""
    read, text = open_text(data), open_text(data)
    list(read)
    return prepare_pairs(data, tokenizers(words), text, read.identity), text.identity is not None


def corpora(tmp_path):
    return sorted(path for path in (tmp_path / "corpora").glob("*") if path.suffix != ".lock")


def test_later_starts_map_the_encoded_pairs_and_read_no_text(data):
    expected, _ = encode_pairs(open_text(data), tokenizers(), 4)
    for is_first in (True, False):
        (pairs, excluded, unknown), was_read = prepare(data)
        assert was_read == is_first
        assert (excluded, unknown) == (1, (0, 0))
        for mapped, encoded in zip(pairs, expected, strict=True):
            np.testing.assert_array_equal(mapped.values, encoded.values)
            np.testing.assert_array_equal(mapped.offsets, encoded.offsets)
            assert mapped.values.dtype == np.uint8  # The vocabulary has 7 words.
            assert isinstance(mapped.values.base, np.memmap)


def touched(data):
    os.utime(data.train, ns=(1, 1))
    return data


def rewritten(data):
    text = Path(data.train)
    times = text.stat()
    text.write_text(text.read_text().replace("a b\t", "a c\t"))
    os.utime(text, ns=(times.st_atime_ns, times.st_mtime_ns))
    return data


def moved(data):
    return dataclasses.replace(data, train=shutil.move(data.train, data.train.replace("pairs.tsv", "copy.tsv")))


def compressed(data):
    Path(f"{data.train}.gz").write_bytes(gzip.compress(Path(data.train).read_bytes()))
    return dataclasses.replace(data, train=f"{data.train}.gz")


def in_two_files(data):
    stem = data.train.removesuffix(".tsv")
    for language, texts in zip(("en", "de"), zip(*(line.split("\t") for line in LINES), strict=True), strict=True):
        Path(f"{stem}.{language}").write_text("\n".join(texts))
    return dataclasses.replace(data, train=f"{stem}.{{lang}}")


def lenient(data):
    Path(data.train).write_text("\n".join([*LINES, "no tab"]))
    return dataclasses.replace(data, on_error="skip")


@pytest.mark.parametrize("change", [touched, moved, compressed, in_two_files, lenient])
def test_the_same_pairs_use_the_same_corpus(data, tmp_path, change):
    expected, _ = prepare(data)
    (pairs, excluded, _), was_read = prepare(change(data))
    assert not was_read
    assert excluded == 1
    np.testing.assert_array_equal(pairs.target.values, expected.pairs.target.values)
    assert len(corpora(tmp_path)) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rewritten, "a b c"),
        (lambda data: dataclasses.replace(data, max_length=5), "a b c"),
        (lambda data: data, "a b c d"),
    ],
)
def test_any_change_to_the_ids_prepares_another_corpus(data, tmp_path, change, words):
    prepare(data)
    changed = change(data)
    (pairs, *_), was_read = prepare(changed, words)
    assert was_read
    expected, _ = encode_pairs(open_text(changed), tokenizers(words), changed.max_length)
    np.testing.assert_array_equal(pairs.source.values, expected.source.values)
    assert len(corpora(tmp_path)) == 2


@pytest.mark.parametrize("change", [touched, lambda data: os.remove(data.train)])
def test_a_text_that_changes_while_it_is_read_is_refused(data, tmp_path, monkeypatch, change):
    def change_text(*arguments):
        yield from blocks(*arguments)
        change(data)

    blocks = prepared.encode_in_blocks
    monkeypatch.setattr(prepared, "encode_in_blocks", change_text)
    with pytest.raises(InputError, match=r"pairs\.tsv was changed while it was read\. Run the same command again"):
        prepare(data)
    assert not corpora(tmp_path)


def test_interrupted_preparation_is_repeated(data, tmp_path, monkeypatch):
    def cut_off(*arguments):
        yield next(blocks(*arguments))
        raise KeyboardInterrupt

    blocks = prepared.encode_in_blocks
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "encode_in_blocks", cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepare(data)
    assert len(prepare(data)[0].pairs) == 3
    assert len(corpora(tmp_path)) == 1


def test_corpus_of_excluded_pairs_alone_leaves_no_files(data, tmp_path):
    data = dataclasses.replace(data, max_length=2)
    Path(data.train).write_text("a b\tb")
    with pytest.raises(InputError, match=r"Raise --data\.max-length"):
        prepare(data)
    assert not corpora(tmp_path)


def test_unwritable_directory_is_reported_with_the_remedy(data, tmp_path):
    (tmp_path / "corpora").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*corpora/.*Set TRANSFORMER_JAX_CORPORA"):
        prepare(data)


@pytest.mark.parametrize("cause", ["a file", "no home"])
def test_default_cache_that_cannot_be_written_is_replaced_by_memory(data, tmp_path, monkeypatch, caplog, cause):
    expected = prepare(data)[0]
    for name in ("TRANSFORMER_JAX_CORPORA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    if cause == "no home":
        monkeypatch.setattr("os.path.expanduser", lambda path: path)
    else:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".cache").write_text("a file")
    in_memory = prepare(data)[0]
    assert in_memory[1:] == expected[1:]
    np.testing.assert_array_equal(in_memory.pairs.source.values, expected.pairs.source.values)
    [message] = [message for message in caplog.messages if "memory" in message]
    assert message.endswith("To keep them, set TRANSFORMER_JAX_CORPORA to a directory with free space.")


def test_phrasebook_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "corpora"))
    (pairs, excluded, _), was_read = prepare(DataConfig(), "old new dog The der alte Hund")
    assert was_read
    assert len(pairs) + excluded == sum(1 for _ in open_pairs("phrasebook", "en", "de", "train"))
    assert not corpora(tmp_path)


def test_a_text_of_unknown_words_alone_leaves_no_files(data, tmp_path):
    Path(data.train).write_text("d e\ta\nf\tb")
    with pytest.raises(InputError, match=r"contains no source token of the training text\. Set --tokenizer\.kind bpe"):
        prepare(data)
    assert not corpora(tmp_path)


def test_simultaneous_starts_prepare_once(data, monkeypatch):
    def slowly(*arguments):
        calls.append(0)
        time.sleep(0.2)
        return blocks(*arguments)

    calls, blocks = [], prepared.encode_in_blocks
    monkeypatch.setattr(prepared, "encode_in_blocks", slowly)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: prepare(data)[0], range(3)))
    assert len(calls) == 1
    assert [len(result.pairs) for result in results] == [3, 3, 3]


def test_file_system_without_locks_is_supported(data, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert len(prepare(data)[0].pairs) == 3
    assert "without locks" in caplog.text


@pytest.mark.parametrize("damage", ["", "cut"])
@pytest.mark.parametrize("name", ["source.ids", "target.ends", "origin.json"])
def test_damaged_corpus_is_refused_with_the_remedy(data, tmp_path, name, damage):
    prepare(data)
    [directory] = corpora(tmp_path)
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-2] if damage else b"")
    with pytest.raises(RunError, match=r"is damaged \(.*\)\. Delete it"):
        prepare(data)


def test_blocks_equal_the_corpus_encoded_in_one_piece(data, tmp_path, monkeypatch):
    in_one_piece, _ = prepare(data)
    monkeypatch.setattr(batches, "ENCODING_BLOCK_PAIRS", 1)  # The block of the pair that is too long is empty.
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "blocks"))
    blocks, _ = prepare(data)
    assert blocks[1:] == in_one_piece[1:]
    for side, expected in zip(blocks.pairs, in_one_piece.pairs, strict=True):
        np.testing.assert_array_equal(side.values, expected.values)
        np.testing.assert_array_equal(side.offsets, expected.offsets)
