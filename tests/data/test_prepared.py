"""A prepared corpus equals the encoded text, is reused only while it is valid, and is never incomplete."""

import dataclasses
import errno
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

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


def counted_opener(data):
    """Return a function that opens the training split and counts its calls."""
    return Mock(wraps=lambda: open_pairs(data.train, data.source, data.target, "train"))


def corpora(tmp_path):
    return sorted(path for path in (tmp_path / "corpora").glob("*") if path.suffix != ".lock")


def test_later_starts_map_the_encoded_pairs_and_read_no_text(data):
    text = counted_opener(data)
    expected, _ = encode_pairs(open_pairs(data.train, "en", "de", "train"), tokenizers(), 4)
    for _ in range(2):
        pairs, excluded, skipped = prepare_pairs(data, tokenizers(), text)
        assert (excluded, skipped) == (1, 0)
        for mapped, encoded in zip(pairs, expected, strict=True):
            np.testing.assert_array_equal(mapped.values, encoded.values)
            np.testing.assert_array_equal(mapped.offsets, encoded.offsets)
            assert mapped.values.dtype == np.uint8  # The vocabulary has 7 words.
            assert isinstance(mapped.values.base, np.memmap)
    assert text.call_count == 1


def touched(data):
    os.utime(data.train, ns=(1, 1))
    return data


def lengthened(data):
    text = Path(data.train)
    times = text.stat()
    text.write_text("\n".join([*LINES, "a\ta"]))
    os.utime(text, ns=(times.st_atime_ns, times.st_mtime_ns))
    return data


def moved(data):
    return dataclasses.replace(data, train=shutil.copy2(data.train, data.train.replace("pairs", "copy")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (touched, "a b c"),
        (lengthened, "a b c"),
        (moved, "a b c"),
        (lambda data: dataclasses.replace(data, max_length=5), "a b c"),
        (lambda data: dataclasses.replace(data, source="de", target="en"), "a b c"),
        (lambda data: data, "a b c d"),
    ],
)
def test_any_change_to_the_ids_prepares_another_corpus(data, tmp_path, change, words):
    prepare_pairs(data, tokenizers(), counted_opener(data))
    changed = change(data)
    text = counted_opener(changed)
    pairs = prepare_pairs(changed, tokenizers(words), text).pairs
    assert text.call_count == 1
    expected, _ = encode_pairs(text(), tokenizers(words), changed.max_length)
    np.testing.assert_array_equal(pairs.source.values, expected.source.values)
    assert len(corpora(tmp_path)) == 2


def test_interrupted_preparation_is_repeated(data, tmp_path, monkeypatch):
    def cut_off(*arguments):
        yield next(blocks(*arguments))
        raise KeyboardInterrupt

    blocks = prepared.encode_in_blocks
    with monkeypatch.context() as patch:
        patch.setattr(prepared, "encode_in_blocks", cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepare_pairs(data, tokenizers(), counted_opener(data))
    assert len(prepare_pairs(data, tokenizers(), counted_opener(data)).pairs) == 3
    assert len(corpora(tmp_path)) == 1


def test_missing_text_is_reported_despite_the_cache(data):
    prepare_pairs(data, tokenizers(), counted_opener(data))
    os.remove(data.train)
    with pytest.raises(InputError, match=r"pairs\.tsv does not exist"):
        prepare_pairs(data, tokenizers(), counted_opener(data))


def test_corpus_of_excluded_pairs_alone_leaves_no_files(data, tmp_path):
    data = dataclasses.replace(data, max_length=2)
    Path(data.train).write_text("a b\tb")
    with pytest.raises(InputError, match=r"Raise --data\.max-length"):
        prepare_pairs(data, tokenizers(), counted_opener(data))
    assert not corpora(tmp_path)


def test_unwritable_directory_is_reported_with_the_remedy(data, tmp_path):
    (tmp_path / "corpora").write_text("a file")
    with pytest.raises(RunError, match=r"cannot write .*corpora/.*Set TRANSFORMER_JAX_CORPORA"):
        prepare_pairs(data, tokenizers(), counted_opener(data))


def test_phrasebook_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSFORMER_JAX_CORPORA", str(tmp_path / "corpora"))
    data = DataConfig()
    pairs, excluded, _ = prepare_pairs(data, tokenizers(), counted_opener(data))
    assert len(pairs) + excluded == sum(1 for _ in open_pairs("phrasebook", "en", "de", "train"))
    assert not corpora(tmp_path)


def test_simultaneous_starts_prepare_once(data):
    text = counted_opener(data)

    def slowly():
        time.sleep(0.2)
        return text()

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: prepare_pairs(data, tokenizers(), slowly), range(3)))
    assert text.call_count == 1
    assert [len(result.pairs) for result in results] == [3, 3, 3]


def test_file_system_without_locks_is_supported(data, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    assert len(prepare_pairs(data, tokenizers(), counted_opener(data)).pairs) == 3
    assert "without locks" in caplog.text


def test_skipped_rows_are_counted_at_later_starts(data):
    Path(data.train).write_text("\n".join([*LINES, "no tab"]))
    lenient = dataclasses.replace(data, on_error="skip")

    def text():
        return open_pairs(data.train, "en", "de", "train", "skip")

    for _ in range(2):
        assert prepare_pairs(lenient, tokenizers(), text)[1:] == (1, 1)
    with pytest.raises(InputError, match=r"pairs\.tsv:5 has 0 tabs"):
        prepare_pairs(data, tokenizers(), counted_opener(data))


@pytest.mark.parametrize("damage", ["", "cut"])
@pytest.mark.parametrize("name", ["source.ids", "target.ends", "origin.json"])
def test_damaged_corpus_is_refused_with_the_remedy(data, tmp_path, name, damage):
    prepare_pairs(data, tokenizers(), counted_opener(data))
    [directory] = corpora(tmp_path)
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-2] if damage else b"")
    with pytest.raises(RunError, match=r"is damaged \(.*\)\. Delete it"):
        prepare_pairs(data, tokenizers(), counted_opener(data))


def test_blocks_equal_the_corpus_encoded_in_one_piece(data, monkeypatch):
    in_one_piece = prepare_pairs(data, tokenizers(), counted_opener(data))
    monkeypatch.setattr(batches, "ENCODING_BLOCK_PAIRS", 1)  # The block of the pair that is too long is empty.
    os.utime(data.train, ns=(1, 1))
    blocks = prepare_pairs(data, tokenizers(), counted_opener(data))
    assert blocks[1:] == in_one_piece[1:]
    for side, expected in zip(blocks.pairs, in_one_piece.pairs, strict=True):
        np.testing.assert_array_equal(side.values, expected.values)
        np.testing.assert_array_equal(side.offsets, expected.offsets)
