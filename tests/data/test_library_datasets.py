"""Readers of Parquet, Hugging Face and TFDS leave rows on disk and refuse invalid ones with their location."""

import errno
import re
import sys

import pyarrow
import pyarrow.parquet
import pytest
from parallel_text import ENGLISH, GERMAN, PAIRS, refusal, rows

from transformer_jax.data.sources import Pair, open_pairs
from transformer_jax.errors import InputError

# Parquet.


@pytest.mark.parametrize("shape", ["flat", "translation"])
def test_parquet_is_read(tmp_path, shape):
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
def test_invalid_parquet_row_is_refused(tmp_path, second, problem):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"en": "a", "de": "b"}, second]), tmp_path / "x.parquet")
    assert problem in refusal(tmp_path / "x.parquet")


def test_parquet_without_the_language_lists_its_columns(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"en": ["a"], "text": ["b"]}), tmp_path / "x.parquet")
    assert "x.parquet has no 'de' (available: 'en', 'text')." in refusal(tmp_path / "x.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"translation": {"en": "a"}}]), tmp_path / "x.parquet")
    assert "x.parquet has no 'de' (available: 'en')." in refusal(tmp_path / "x.parquet")


def test_damaged_parquet_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows("flat")), path)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path} is not a complete Parquet file" in refusal(path)


def test_parquet_with_damaged_column_names_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"en": ["a"], "de": ["b"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"en", b"\xff\xff"))
    assert f"{path} is not a complete Parquet file" in refusal(path)


def test_empty_parquet_is_refused(tmp_path):
    schema = pyarrow.schema({"en": pyarrow.string(), "de": pyarrow.string()})
    pyarrow.parquet.write_table(schema.empty_table(), tmp_path / "x.parquet")
    assert "contains no sentence pairs" in refusal(tmp_path / "x.parquet")


# Hugging Face.


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return a data set directory with two configs, laid out as on the hub, and disable the network."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    directory = tmp_path / "books"
    configs = ""
    for shape in ("translation", "flat"):
        (directory / shape).mkdir(parents=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows(shape)), directory / shape / "train-00000.parquet")
        configs += f"- config_name: {shape}\n  data_files:\n  - split: train\n    path: {shape}/train-*\n"
    invalid = [{"en": "a", "de": "b", "id": 0}, {"en": "", "de": "b", "id": 1}, {"en": "c", "de": None, "id": 2}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(invalid), directory / "flat" / "validation-00000.parquet")
    configs += "  - split: validation\n    path: flat/validation-*\n"
    (directory / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    return directory


@pytest.mark.parametrize("config", ["translation", "flat"])
def test_hf_directory_is_read(hub, config):
    assert list(open_pairs(f"hf://{hub}:{config}?split=train", "en", "de", "test")) == PAIRS


def test_hf_supports_split_slices(hub):
    assert list(open_pairs(f"hf://{hub}:translation?split=train[:40%]", "en", "de", "train")) == PAIRS[:2]
    assert list(open_pairs(f"hf://{hub}:translation?split=train[40%:]", "en", "de", "train")) == PAIRS[2:]


def test_hf_fingerprint_identifies_the_rows(hub):
    def fingerprint(rows):
        return open_pairs(f"hf://{hub}:{rows}", "en", "de", "train").fingerprint

    first = fingerprint("flat")
    assert fingerprint("flat") == first
    assert len({first, fingerprint("flat?split=train[:40%]"), fingerprint("translation")}) == 3


def test_hf_split_defaults_to_the_role(hub):
    assert list(open_pairs(f"hf://{hub}:flat", "en", "de", "train")) == PAIRS
    assert next(iter(open_pairs(f"hf://{hub}:flat", "en", "de", "valid"))) == ("a", "b")
    assert "Unknown split \"test\". Should be one of ['train', 'validation']" in refusal(
        f"hf://{hub}:flat", split="test"
    )


def test_hf_allows_blank_sentences_and_refuses_null(hub):
    pairs = iter(open_pairs(f"hf://{hub}:flat", "en", "de", "valid"))
    assert [next(pairs), next(pairs)] == [("a", "b"), ("", "b")]
    with pytest.raises(InputError, match="row 2, 'de', is null, not text"):
        next(pairs)


@pytest.mark.parametrize("first", [{"translation": None}, {"translation": {"en": "a", "de": None}}])
def test_null_in_the_first_row_is_an_invalid_row(tmp_path, hub, first):
    (tmp_path / "nulls").mkdir()
    table = pyarrow.Table.from_pylist([first, {"translation": {"en": "a", "de": "b"}}, first])
    pyarrow.parquet.write_table(table, tmp_path / "nulls" / "train.parquet")
    locator = f"hf://{tmp_path}/nulls"
    pairs = open_pairs(locator, "en", "de", "train", "skip")
    assert list(pairs) == [("a", "b")]
    assert pairs.skipped == 2
    assert re.search(
        r"row 0, '(en|de)', is null, not text\. Set --data\.on-error skip, or choose other rows, for example with "
        r"\?split=train\[1:\]\.$",
        refusal(locator),
    )
    assert refusal(f"{locator}?split=train", split="valid").endswith(
        "is null, not text. Choose other rows, for example with ?split=validation[1:]."
    )


@pytest.fixture
def saved(tmp_path):
    """Return a directory with the saved Dataset ``one`` and the saved DatasetDict ``splits``."""
    import datasets

    datasets.disable_progress_bars()
    rows_of_train = datasets.Dataset.from_list(rows("translation"))
    rows_of_train.save_to_disk(tmp_path / "one")
    splits = {"train": rows_of_train, "validation": rows_of_train.select([1]), "dev": rows_of_train.select([0])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "splits")
    datasets.enable_progress_bars()
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "hf://"])
def test_saved_dataset_is_read_by_its_path(saved, prefix, monkeypatch):
    def read(locator, split="train"):
        return list(open_pairs(f"{prefix}{locator}", "en", "de", split))

    assert read(f"{saved}/one") == read(f"{saved}/one", "valid") == read(f"{saved}/splits/train") == PAIRS
    assert read(f"{saved}/one?split=train[:2]") == PAIRS[:2]
    assert read(f"{saved}/splits") == PAIRS
    assert read(f"{saved}/splits", "valid") == PAIRS[1:2]
    assert read(f"{saved}/splits?split=dev+train[3:]") == PAIRS[:1] + PAIRS[3:]
    monkeypatch.setenv("HOME", str(saved))
    assert read("~/one") == PAIRS
    if prefix:
        assert read("/~/one") == PAIRS


def test_saved_dataset_names_its_splits_and_its_damage(saved):
    message = refusal(f"{saved}/splits", split="test")
    assert message.startswith(f"{saved}/splits?split=test: Unknown split \"test\". Should be one of ['train', ")
    assert "has no 'fr' (available: 'en', 'de')" in refusal(f"{saved}/one", "fr")
    (saved / "one" / "state.json").write_text("{")
    assert refusal(f"{saved}/one").endswith("Check the split, or write the data set again.")


def test_full_cache_of_hugging_face_names_the_variable(hub, monkeypatch):
    def fail(*_, **__):
        raise ValueError("An error occurred") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("datasets.load_dataset", fail)
    assert refusal(f"hf://{hub}").endswith("Set HF_HOME to a writable directory with free space.")


def test_hf_rows_stay_on_disk(hub, monkeypatch):
    import datasets

    def refuse(self, *_):
        raise AssertionError("all rows were loaded")

    monkeypatch.setattr(datasets.Dataset, "__iter__", refuse)
    monkeypatch.setattr(datasets.Dataset, "to_list", refuse)
    assert next(iter(open_pairs(f"hf://{hub}:translation", "en", "de", "train"))) == PAIRS[0]


def test_hf_wrong_names_list_the_available_ones(hub):
    assert "no 'fr' (available: 'en', 'de', 'id')" in refusal(f"hf://{hub}:flat", "fr")
    message = refusal(f"hf://{hub}:translation", "fr")
    assert "no 'fr' (available: 'de', 'en')" in re.sub("'en', 'de'", "'de', 'en'", message)
    assert "Available: ['translation', 'flat']" in refusal(f"hf://{hub}:en-de")
    assert "Unrecognized instruction format" in refusal(f"hf://{hub}:flat?split=train[:x%]")
    assert "?slit=train is invalid." in refusal(f"hf://{hub}:flat?slit=train")
    assert f"Couldn't find any data file at {hub}x" in refusal(f"hf://{hub}x")


def test_hf_without_network_names_the_remedy(hub):
    message = refusal("hf://owner/nothing:en-de")
    assert message.startswith("hf://owner/nothing:en-de is not reachable")
    assert "hf download --repo-type dataset owner/nothing" in message
    assert "hf:///path/to/DIR" in message


# TensorFlow Datasets.


@pytest.fixture
def tfds(tmp_path, monkeypatch):
    """Replace the download of the real wmt14_translate builder; return a function that replaces it again."""
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
    first_two = open_pairs("tfds://wmt14_translate/de-en?split=train[:40%]", "en", "de", "test")
    assert len(list(first_two)) == 2
    assert first_two.fingerprint == f"{tmp_path}/wmt14_translate/de-en/1.0.0?split=train[:40%]"
    assert "tensorflow" not in sys.modules


def test_tfds_wrong_names_list_the_available_ones(tfds):
    assert "no 'fr' (available: 'de', 'en')" in refusal("tfds://wmt14_translate/de-en", "fr")
    assert "Should be one of ['train', 'validation', 'test']" in refusal("tfds://wmt14_translate/de-en?split=dev")
    assert "de-xx not found" in refusal("tfds://wmt14_translate/de-xx")
    assert "Dataset nothing_translate not found. Check name" in refusal("tfds://nothing_translate/de-en")


def test_tfds_without_network_names_the_remedy(tfds):
    tfds(no_network)
    message = refusal("tfds://wmt14_translate/de-en")
    assert "is not available (www.statmt.org cannot be resolved)" in message
    assert "set TFDS_DATA_DIR" in message


def test_tfds_bytes_that_are_not_utf8_are_refused(tfds):
    tfds(lambda self, _: {"train": [(0, {"en": b"sch\xf6n", "de": "b"})]})
    assert "row 0, 'en', is not UTF-8" in refusal("tfds://wmt14_translate/de-en")


def test_tfds_without_a_home_names_the_variable(tfds, monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # There is no home directory.
    monkeypatch.setenv("TFDS_DATA_DIR", "")
    message = refusal("tfds://wmt14_translate/de-en")
    assert message == (
        "tfds://wmt14_translate/de-en?split=train needs a directory, but the home directory is not known. "
        "Set TFDS_DATA_DIR to a writable directory."
    )


def test_tfds_directory_that_is_not_writable_is_named(tfds, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "file" / "tfds"))
    message = refusal("tfds://wmt14_translate/de-en")
    assert " is not writable, so tfds://wmt14_translate/de-en?split=train is not prepared (" in message
    assert message.endswith("Set TFDS_DATA_DIR to a writable directory with free space.")


def test_tfds_missing_files_are_refused(tfds, tmp_path):
    list(open_pairs("tfds://wmt14_translate/de-en", "en", "de", "train"))
    for path in tmp_path.glob("wmt14_translate/de-en/1.0.0/*-train.array_record*"):
        path.unlink()
    assert "is not readable" in refusal("tfds://wmt14_translate/de-en")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "array_record", "importlib_resources"])
def test_tfds_without_its_packages_names_the_remedy(monkeypatch, package):
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, package, None)
    message = refusal("tfds://wmt14_translate/de-en")
    assert package in message
    assert message.endswith("pip install tensorflow-datasets array_record importlib_resources")
