"""Every locator reads what was written, and every kind of bad input is one line that names the place."""

import gzip
import json
import lzma
import re
import sys
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_jax.data import sources
from transformer_jax.data.sources import Pair, open_pairs
from transformer_jax.errors import InputError

# U+2028, U+0085, \f and \r are line ends for str.splitlines, but not for a parallel corpus.
ENGLISH = [
    "The house is red.",
    "A line\u2028that\x0bgoes\x85on\fand on.",
    "“Yes”, he\rsaid.",
    " Spaces stay. ",
    "日本 🙂",
]
GERMAN = ["Das Haus ist rot.", "Eine Zeile, die weitergeht.", "„Ja“, sagte er.", "Leerzeichen bleiben.", "Japan 🙂"]
PAIRS = [Pair(*pair) for pair in zip(ENGLISH, GERMAN, strict=True)]
COMPRESS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def write(path, lines, suffix="", end="\n"):
    path.with_name(path.name + suffix).write_bytes(COMPRESS[suffix]("".join(line + end for line in lines).encode()))


def write_pair(folder, english, german):
    write(folder / "train.en", english)
    write(folder / "train.de", german)
    return f"{folder}/train.{{lang}}"


def refusal(locator, source="en", target="de", split="train"):
    """The message with which the locator is refused."""
    with pytest.raises(InputError) as caught:
        list(open_pairs(str(locator), source, target, split))
    message = str(caught.value)
    assert "\n" not in message
    assert re.search(r"[.?]$|pip install", message), "the message ends with a remedy"
    return message


# Text files.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_one_file_a_language(tmp_path, suffix):
    write(tmp_path / "train.en", ENGLISH, suffix)
    write(tmp_path / "train.de", GERMAN, suffix)
    locator = f"{tmp_path}/train.{{lang}}{suffix}"
    assert list(open_pairs(locator, "en", "de", "train")) == PAIRS
    assert next(iter(open_pairs(locator, "de", "en", "test"))) == Pair(GERMAN[0], ENGLISH[0])


def test_language_may_also_name_a_folder(tmp_path):
    for language, lines in (("en", ENGLISH), ("de", GERMAN)):
        (tmp_path / language).mkdir()
        write(tmp_path / language / f"x.{language}", lines)
    assert list(open_pairs(f"{tmp_path}/{{lang}}/x.{{lang}}", "en", "de", "train")) == PAIRS


def test_pairs_can_be_read_again_and_side_by_side(tmp_path):
    pairs = open_pairs(write_pair(tmp_path, ENGLISH, GERMAN), "en", "de", "train")
    assert list(zip(pairs, pairs, strict=True)) == [(pair, pair) for pair in PAIRS]


def test_windows_line_ends_byte_order_mark_and_missing_last_line_end(tmp_path):
    (tmp_path / "train.en").write_bytes(b"\xef\xbb\xbfOne\r\nTwo\r\n")
    (tmp_path / "train.de").write_bytes(b"Eins\nZwei")
    assert list(open_pairs(f"{tmp_path}/train.{{lang}}", "en", "de", "train")) == [("One", "Eins"), ("Two", "Zwei")]


def test_a_byte_order_mark_elsewhere_is_text(tmp_path):
    locator = write_pair(tmp_path, ["a", "\ufeffb"], ["c", "d"])
    assert [pair.source for pair in open_pairs(locator, "en", "de", "train")] == ["a", "\ufeffb"]


def test_unequal_line_counts_name_both_files_and_counts(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", "e"]))
    assert f"{tmp_path}/train.en has 3 lines but {tmp_path}/train.de has 2." in message


def test_blank_line_on_one_side(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", "b", "c"], ["d", " \t", "f"]))
    assert message == (
        f"{tmp_path}/train.de:2 is blank but {tmp_path}/train.en:2 is not. Delete line 2 from both files."
    )
    message = refusal(write_pair(tmp_path, ["a", "b", ""], ["d", "e", "f"]))
    assert message == (
        f"{tmp_path}/train.en:3 is blank but {tmp_path}/train.de:3 is not. Delete line 3 from both files."
    )


def test_blank_line_on_both_sides(tmp_path):
    message = refusal(write_pair(tmp_path, ["a", ""], ["d", ""]))
    assert message == f"{tmp_path}/train.en:2 and {tmp_path}/train.de:2 are blank. Delete line 2 from both files."


def test_line_that_is_not_utf8(tmp_path):
    write(tmp_path / "train.en", ["a", "b"])
    (tmp_path / "train.de").write_bytes("gut\nschön\n".encode("latin-1"))
    message = refusal(f"{tmp_path}/train.{{lang}}")
    assert f"{tmp_path}/train.de:2 is not UTF-8" in message
    assert "byte 4" in message


def test_utf16_is_refused(tmp_path):
    write(tmp_path / "train.de", ["a"])
    (tmp_path / "train.en").write_bytes("a\n".encode("utf-16"))
    assert f"{tmp_path}/train.en:1 is not UTF-8" in refusal(f"{tmp_path}/train.{{lang}}")


def test_empty_files(tmp_path):
    locator = write_pair(tmp_path, [], [])
    assert f"{locator} holds no sentence pairs." in refusal(locator)


def test_missing_language_file_is_named_with_what_is_there(tmp_path):
    write(tmp_path / "train.en", ENGLISH)
    write(tmp_path / "train.de", GERMAN, ".gz")
    message = refusal(f"{tmp_path}/train.{{lang}}")
    assert message.startswith(f"{tmp_path}/train.de does not exist.")
    assert "Did you mean" in message
    assert "train.de.gz" in message


def test_missing_folder_and_folder_instead_of_file(tmp_path):
    assert "does not exist, nor does its folder" in refusal(tmp_path / "no" / "x.tsv")
    (tmp_path / "x.tsv").mkdir()
    assert "is a folder" in refusal(tmp_path / "x.tsv")


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["truncated", "not compressed"])
def test_damaged_compression(tmp_path, suffix, damage):
    path = tmp_path / f"x.tsv{suffix}"
    whole = COMPRESS[suffix](b"".join(b"%d\t%d\n" % (n, n * n) for n in range(10_000)))
    path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"a\tb\n")
    assert f"{path} is damaged after line " in refusal(path)


def test_flipped_byte_in_gzip(tmp_path):
    data = bytearray(gzip.compress(b"".join(b"%d\t%d\n" % (n, n * n) for n in range(10_000))))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "x.tsv.gz").write_bytes(data)
    assert "is damaged after line " in refusal(tmp_path / "x.tsv.gz")


# TSV, JSONL, Parquet.


@pytest.mark.parametrize("suffix", COMPRESS)
def test_tsv(tmp_path, suffix):
    write(tmp_path / "x.tsv", [f"{english}\t{german}" for english, german in PAIRS], suffix)
    assert list(open_pairs(f"{tmp_path}/x.tsv{suffix}", "en", "de", "valid")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("no tab", "x.tsv:2 has 0 tabs, not 1."),
        ("a\tb\tCC-BY 2.0", "x.tsv:2 has 2 tabs, not 1."),
        ("", "x.tsv:2, the source, is blank."),
        ("\tb", "x.tsv:2, the source, is blank."),
        ("a\t ", "x.tsv:2, the target, is blank."),
    ],
)
def test_bad_tsv_line(tmp_path, line, problem):
    write(tmp_path / "x.tsv", ["a\tb", line])
    assert problem in refusal(tmp_path / "x.tsv")


def rows(shape):
    flat = [{"en": english, "de": german, "id": n} for n, (english, german) in enumerate(PAIRS)]
    return flat if shape == "flat" else [{"id": row.pop("id"), "translation": row} for row in flat]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_jsonl(tmp_path, suffix, shape):
    write(tmp_path / "x.jsonl", [json.dumps(row, ensure_ascii=False) for row in rows(shape)], suffix)
    assert list(open_pairs(f"{tmp_path}/x.jsonl{suffix}", "en", "de", "train")) == PAIRS


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "x.jsonl:2 is not JSON"),
        ('{"en": "a", "de": "b"', "x.jsonl:2 is not JSON"),
        ("[" * 100_000, "x.jsonl:2 is not JSON"),
        ('["a", "b"]', "x.jsonl:2 is JSON but no object."),
        ('{"en": "a", "fr": "b"}', "x.jsonl:2 has no 'de', only 'en', 'fr'."),
        ('{"translation": {"en": "a"}}', "x.jsonl:2 has no 'de', only 'en'."),
        ("{}", "x.jsonl:2 has no 'en', only nothing."),
        ('{"en": "a", "de": 7}', "x.jsonl:2, 'de', is 7, not text."),
        ('{"en": null, "de": "b"}', "x.jsonl:2, 'en', is null, not text."),
        ('{"en": "a", "de": " "}', "x.jsonl:2, 'de', is blank."),
        ('{"en": "a\\ud83d", "de": "b"}', "x.jsonl:2, 'en', holds half a surrogate pair"),
    ],
)
def test_bad_jsonl_line(tmp_path, line, problem):
    write(tmp_path / "x.jsonl", ['{"en": "a", "de": "b"}', line])
    assert problem in refusal(tmp_path / "x.jsonl")


@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_parquet(tmp_path, shape):
    table = pyarrow.Table.from_pylist(rows(shape))
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    assert list(open_pairs(f"{tmp_path}/x.parquet", "en", "de", "train")) == PAIRS
    assert list(open_pairs(f"{tmp_path}/x.parquet", "de", "en", "train"))[1] == Pair(GERMAN[1], ENGLISH[1])


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"en": "a", "de": None}, "row 1, 'de', is null, not text."),
        ({"en": "\n", "de": "b"}, "row 1, 'en', is blank."),
    ],
)
def test_bad_parquet_row(tmp_path, second, problem):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"en": "a", "de": "b"}, second]), tmp_path / "x.parquet")
    assert problem in refusal(tmp_path / "x.parquet")


def test_parquet_without_the_language_names_the_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"en": ["a"], "text": ["b"]}), tmp_path / "x.parquet")
    assert "x.parquet has no 'de', only 'en', 'text'." in refusal(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"translation": {"en": "a"}}]), tmp_path / "x.parquet")
    assert "x.parquet has no 'de', only 'en'." in refusal(tmp_path / "x.parquet")


def test_damaged_parquet(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows("flat")), path)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is no whole Parquet file" in refusal(path)


def test_parquet_with_damaged_names(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"en": ["a"], "de": ["b"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"en", b"\xff\xff"))
    assert f"{path} is no whole Parquet file" in refusal(path)


def test_empty_parquet(tmp_path):
    schema = pyarrow.schema({"en": pyarrow.string(), "de": pyarrow.string()})
    pyarrow.parquet.write_table(schema.empty_table(), tmp_path / "x.parquet")
    assert "holds no sentence pairs" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "locator", ["", "phrasebok", "x.csv", "x.parquet.gz", "s3://x/y", "x.tsv?split=train", "hf://"]
)
def test_unknown_locator_lists_the_kinds(locator):
    message = refusal(locator)
    assert message.startswith(f"{locator!r} is no known kind")
    for kind in ("{lang}", ".tsv", ".jsonl", ".parquet", "hf://", "tfds://", "phrasebook"):
        assert kind in message


# The embedded corpus.


def test_phrasebook():
    from transformer_jax.data.phrasebook import generate

    corpus = generate()
    for split in ("train", "valid", "test"):
        assert list(open_pairs("phrasebook", "en", "de", split)) == list(map(tuple, corpus[split]))
        assert next(iter(open_pairs("phrasebook", "de", "en", split))) == tuple(corpus[split][0])[::-1]


def test_phrasebook_knows_two_languages():
    assert "phrasebook is en and de, not en to fr." in refusal("phrasebook", "en", "fr")
    assert "not en to en" in refusal("phrasebook", "en", "en")


# Hugging Face.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set folder as on the hub, with two configs, and no network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    folder = tmp_path / "books"
    configs = ""
    for shape in ("translation", "flat"):
        (folder / shape).mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(shape)), folder / shape / "train-00000.parquet")
        configs += f"- config_name: {shape}\n  data_files:\n  - split: train\n    path: {shape}/train-*\n"
    bad = [{"en": "a", "de": "b", "id": 0}, {"en": "", "de": "b", "id": 1}, {"en": "c", "de": None, "id": 2}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(bad), folder / "flat" / "validation-00000.parquet")
    configs += "  - split: validation\n    path: flat/validation-*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return folder


@pytest.mark.parametrize("config", ["translation", "flat"])
def test_hf_folder(hub, config):
    assert list(open_pairs(f"hf://{hub}:{config}?split=train", "en", "de", "test")) == PAIRS


def test_hf_takes_the_librarys_slices(hub):
    assert list(open_pairs(f"hf://{hub}:translation?split=train[:40%]", "en", "de", "train")) == PAIRS[:2]
    assert list(open_pairs(f"hf://{hub}:translation?split=train[40%:]", "en", "de", "train")) == PAIRS[2:]


def test_hf_fingerprint_tells_rows_apart(hub):
    def fingerprint(rows):
        return open_pairs(f"hf://{hub}:{rows}", "en", "de", "train").fingerprint

    first = fingerprint("flat")
    assert fingerprint("flat") == first
    assert len({first, fingerprint("flat?split=train[:40%]"), fingerprint("translation")}) == 3


def test_hf_split_is_named_by_the_role(hub):
    assert list(open_pairs(f"hf://{hub}:flat", "en", "de", "train")) == PAIRS
    assert next(iter(open_pairs(f"hf://{hub}:flat", "en", "de", "valid"))) == ("a", "b")
    assert "Unknown split \"test\". Should be one of ['train', 'validation']" in refusal(
        f"hf://{hub}:flat", split="test"
    )


def test_hf_passes_blank_sentences_on_and_refuses_null(hub):
    pairs = iter(open_pairs(f"hf://{hub}:flat", "en", "de", "valid"))
    assert [next(pairs), next(pairs)] == [("a", "b"), ("", "b")]
    with pytest.raises(InputError, match="row 2, 'de', is null, not text"):
        next(pairs)


def test_hf_rows_stay_on_disk(hub, monkeypatch):
    import datasets

    def refuse(self, *_):
        raise AssertionError("read from end to end")

    monkeypatch.setattr(datasets.Dataset, "__iter__", refuse)
    monkeypatch.setattr(datasets.Dataset, "to_list", refuse)
    assert next(iter(open_pairs(f"hf://{hub}:translation", "en", "de", "train"))) == PAIRS[0]


def test_hf_wrong_names_are_answered_with_the_right_ones(hub):
    assert "no 'fr', only 'en', 'de', 'id'" in refusal(f"hf://{hub}:flat", "fr")
    assert "no 'fr', only 'de', 'en'" in re.sub("'en', 'de'", "'de', 'en'", refusal(f"hf://{hub}:translation", "fr"))
    assert "Available: ['translation', 'flat']" in refusal(f"hf://{hub}:en-de")
    assert "Unrecognized instruction format" in refusal(f"hf://{hub}:flat?split=train[:x%]")
    assert "?slit=train is not understood." in refusal(f"hf://{hub}:flat?slit=train")
    assert f"Couldn't find any data file at {hub}x" in refusal(f"hf://{hub}x")


def test_hf_without_network_names_the_remedy(hub):
    message = refusal("hf://nobody/nothing:en-de")
    assert message.startswith("hf://nobody/nothing:en-de cannot be reached")
    assert "hf download --repo-type dataset nobody/nothing" in message
    assert "hf:///path/to/FOLDER" in message


# TensorFlow Datasets.


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """The real builder of wmt14_translate with only its download replaced; returns what stands for the download."""
    wmt14 = pytest.importorskip("tensorflow_datasets.translate.wmt14")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))

    def download(self, _):
        splits = {"train": rows("flat"), "validation": rows("flat")[:2], "test": rows("flat")[3:]}
        return {
            name: [(row["id"], {"en": row["en"], "de": row["de"]}) for row in split] for name, split in splits.items()
        }

    def set_download(function):
        monkeypatch.setattr(wmt14.Wmt14Translate, "_split_generators", function)

    set_download(download)
    return set_download


def no_network(self, _):
    raise ConnectionError("www.statmt.org cannot be resolved")


def test_tfds_prepares_once_and_then_reads_from_disk(tfds, tmp_path):
    # The library shuffles the examples when it prepares them.
    assert sorted(open_pairs("tfds://wmt14_translate/de-en", "en", "de", "train")) == sorted(PAIRS)
    assert list(tmp_path.glob("wmt14_translate/de-en/1.0.0/*-train.array_record-00000-of-00001"))
    tfds(no_network)
    pairs = open_pairs("tfds://wmt14_translate/de-en", "de", "en", "valid")
    assert sorted(pairs) == sorted(pair[::-1] for pair in PAIRS[:2])
    part = open_pairs("tfds://wmt14_translate/de-en?split=train[:40%]", "en", "de", "test")
    assert len(list(part)) == 2
    assert part.fingerprint == f"{tmp_path}/wmt14_translate/de-en/1.0.0?split=train[:40%]"
    assert "tensorflow" not in sys.modules


def test_tfds_wrong_names_are_answered_with_the_right_ones(tfds):
    assert "no 'fr', only 'de', 'en'" in refusal("tfds://wmt14_translate/de-en", "fr")
    assert "Should be one of ['train', 'validation', 'test']" in refusal("tfds://wmt14_translate/de-en?split=dev")
    assert "de-xx not found" in refusal("tfds://wmt14_translate/de-xx")
    assert "Dataset nothing_translate not found. Check name" in refusal("tfds://nothing_translate/de-en")


def test_tfds_without_network_names_the_remedy(tfds):
    tfds(no_network)
    message = refusal("tfds://wmt14_translate/de-en")
    assert "cannot be downloaded or read (www.statmt.org cannot be resolved)" in message
    assert "set TFDS_DATA_DIR" in message


def test_tfds_bytes_that_are_not_utf8(tfds):
    tfds(lambda self, _: {"train": [(0, {"en": b"sch\xf6n", "de": "b"})]})
    assert "row 0, 'en', is not UTF-8" in refusal("tfds://wmt14_translate/de-en")


def test_tfds_damaged_files(tfds, tmp_path):
    list(open_pairs("tfds://wmt14_translate/de-en", "en", "de", "train"))
    for path in tmp_path.glob("wmt14_translate/de-en/1.0.0/*-train.array_record*"):
        path.unlink()
    assert "cannot be read" in refusal("tfds://wmt14_translate/de-en")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record", "importlib_resources"])
def test_tfds_not_installed(monkeypatch, package):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal("tfds://wmt14_translate/de-en")
    assert package in message
    assert message.endswith("pip install tensorflow-datasets array_record importlib_resources")


# A bad row among good ones.


def bad_rows(folder, kind):
    """A locator with bad rows between the pairs a-d and b-e and c-f."""
    if kind == "text":
        (folder / "train.en").write_bytes(b"a\n\xff\nx\n\nb\nx\0\nc\n")
        (folder / "train.de").write_bytes(b"d\nx\n \nx\ne\nx\nf\n")
        return f"{folder}/train.{{lang}}", 4
    if kind == "tsv":
        (folder / "x.tsv").write_bytes(b"a\td\nno tab\n\xff\tx\nb\te\nx\ty\tz\n\tx\nx\0\tx\nc\tf\n")
        return folder / "x.tsv", 5
    if kind == "jsonl":
        lines = ['{"en": "a", "de": "d"}', "", '{"en": "x"}', '{"en": "b", "de": "e"}', "[]", '{"en": "x", "de": null}']
        write(folder / "x.jsonl", [*lines, '{"en": "x\\u0000", "de": "x"}', '{"en": "c", "de": "f"}'])
        return folder / "x.jsonl", 5
    binary = pyarrow.array([b"a", b"\xff", b"b", b"x", b"c"], pyarrow.binary())
    english = pyarrow.StringArray.from_buffers(5, *binary.buffers()[1:])  # As a careless program writes it.
    pyarrow.parquet.write_table(pyarrow.table({"en": english, "de": ["d", "x", "e", None, "f"]}), folder / "x.parquet")
    return folder / "x.parquet", 2


@pytest.mark.parametrize("kind", ["text", "tsv", "jsonl", "parquet"])
def test_bad_rows_are_skipped_on_both_sides_and_counted_if_asked_for(tmp_path, kind, caplog):
    locator, bad = bad_rows(tmp_path, kind)
    refused = refusal(locator)
    pairs = open_pairs(str(locator), "en", "de", "train", "skip")
    assert list(pairs) == [("a", "d"), ("b", "e"), ("c", "f")]
    assert pairs.skipped == bad
    assert list(pairs) == [("a", "d"), ("b", "e"), ("c", "f")]
    assert [record.message for record in caplog.records] == [
        f"{locator}: {bad} of {bad + 3} rows are skipped; the first: {refused}"
    ]


def test_a_file_of_bad_rows_alone_names_the_first(tmp_path):
    write(tmp_path / "x.tsv", ["a", "b"])
    with pytest.raises(
        InputError, match=r"no sentence pairs \(all 2 rows are bad; the first: .*:1 has 0 tabs, not 1\."
    ):
        list(open_pairs(f"{tmp_path}/x.tsv", "en", "de", "train", "skip"))


def test_what_is_wrong_with_a_whole_file_is_never_skipped(tmp_path):
    locator = write_pair(tmp_path, ["a", "b", "c"], ["d", "e"])
    with pytest.raises(InputError, match="has 3 lines but"):
        list(open_pairs(locator, "en", "de", "train", "skip"))
    (tmp_path / "x.tsv.gz").write_bytes(gzip.compress(b"a\tb\n" * 1000)[:-9])
    with pytest.raises(InputError, match="is damaged after line "):
        list(open_pairs(f"{tmp_path}/x.tsv.gz", "en", "de", "train", "skip"))


def read_to_the_end(locator, on_error):
    """The most bytes that Python then held."""
    tracemalloc.start()
    try:
        for _ in open_pairs(locator, "en", "de", "train", on_error):
            pass
    finally:
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return held


def test_memory_does_not_grow_with_the_file(tmp_path):
    with gzip.open(tmp_path / "x.tsv.gz", "wb", 1) as file:  # 72 MB of text.
        file.write(f"{'a ' * 4500}\t{'b ' * 4500}\n".encode() * 4_000)
        file.write(b"sch\xf6n\tgut\n")
    assert read_to_the_end(f"{tmp_path}/x.tsv.gz", "skip") < 2**23
    with pytest.raises(InputError, match=r"x\.tsv\.gz:4001 is not UTF-8"):
        read_to_the_end(f"{tmp_path}/x.tsv.gz", "refuse")


def test_a_line_without_end_takes_no_more_memory_than_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 2**16)
    with gzip.open(tmp_path / "x.tsv.gz", "wb") as file:  # 64 MiB that compress to almost nothing.
        file.write(b"a\td\n")
        for _ in range(64):
            file.write(b" " * 2**20)
        file.write(b"\nb\te\n")
    assert list(open_pairs(f"{tmp_path}/x.tsv.gz", "en", "de", "train", "skip")) == [("a", "d"), ("b", "e")]
    assert read_to_the_end(f"{tmp_path}/x.tsv.gz", "skip") < 2**23
    assert "x.tsv.gz:2 has over 0 MiB, which is no sentence." in refusal(tmp_path / "x.tsv.gz")


# Any text.


def writes(text):
    """Whether a line can hold it: not blank, nothing that ends or begins a file or line, no column's end."""
    return bool(text.strip()) and not text.startswith("\ufeff") and not text.endswith("\r")


LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\t\0"), max_size=13).filter(writes)
BAD = st.sampled_from([b"no tab", b"\t\t", b"\xff\tx", b"x\t \x85", b"\0\tx", b""])


@given(st.lists(st.tuples(LINES, LINES), min_size=1, max_size=7), st.sampled_from(list(COMPRESS)))
def test_what_is_written_is_read_whatever_the_format(tmp_path_factory, pairs, suffix):
    folder = tmp_path_factory.mktemp("any")
    for number, language in enumerate(("en", "de")):
        write(folder / f"x.{language}", [pair[number] for pair in pairs], suffix)
    write(folder / "x.tsv", map("\t".join, pairs), suffix)
    columns = [dict(zip(("en", "de"), pair, strict=True)) for pair in pairs]
    write(folder / "x.jsonl", map(json.dumps, columns), suffix)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(columns), folder / "x.parquet")
    for locator in (f"x.{{lang}}{suffix}", f"x.tsv{suffix}", f"x.jsonl{suffix}", "x.parquet"):
        assert list(open_pairs(f"{folder}/{locator}", "en", "de", "train")) == pairs


@given(st.lists(st.tuples(LINES, LINES).map("\t".join).map(str.encode) | BAD, min_size=1, max_size=13))
def test_skipping_leaves_the_good_rows_in_their_order(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "x.tsv"
    path.write_bytes(b"".join(row + b"\n" for row in [b"a\tb", *rows]))
    good = [row for row in rows if row not in (b"no tab", b"\t\t", b"\xff\tx", b"x\t \x85", b"\0\tx", b"")]
    pairs = open_pairs(str(path), "en", "de", "train", "skip")
    assert list(pairs) == [("a", "b"), *(tuple(row.decode().split("\t")) for row in good)]
    assert pairs.skipped == len(rows) - len(good)
