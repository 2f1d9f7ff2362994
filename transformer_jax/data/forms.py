"""Forms of files, known by the suffix of their name, and what to do about those that are not read."""

from __future__ import annotations

from pathlib import Path

from transformer_jax.data.compression import COMPRESSION_SUFFIXES
from transformer_jax.errors import InputError
from transformer_jax.terminal import quote

FORM_NAMES = {
    ".tsv": "tab-separated values",
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines"), "JSON lines"),
    ".parquet": "Parquet",
    ".json": "JSON",
    ".csv": "comma-separated values",
    **dict.fromkeys((".doc", ".docx", ".odt", ".rtf", ".pdf", ".xls", ".xlsx", ".ods", ".pptx", ".epub"), "a document"),
    **dict.fromkeys((".xml", ".tmx", ".xliff", ".xlf", ".sgm", ".sgml", ".html", ".srt", ".vtt"), "markup"),
    **dict.fromkeys((".arrow", ".feather", ".npy", ".npz", ".pkl", ".db", ".sqlite"), "binary data"),
}
"""Suffix of a file that is not plain text -> name of its form. Plain text has any other suffix."""
CSV_TO_TSV = "import csv, sys; [print(*row[:2], sep=chr(9)) for row in csv.reader(sys.stdin)]"


def form_suffix(path: str) -> str:
    """Return the suffix that names the form of a file, in lower case, such as ".tsv" for "x.TSV.gz"."""
    return Path(COMPRESSION_SUFFIXES.sub("", path)).suffix.lower()


def require_plain_text_name(locator: str, source: str, target: str) -> None:
    """Raise InputError if files with one language each have a suffix of another form than plain text."""
    form = form_suffix(locator)
    if form not in FORM_NAMES:
        return
    paths = [quote(Path(locator.replace("{lang}", language))) for language in (source, target)]
    remedy = {
        ".tsv": f"Join them (paste {paths[0]} {paths[1]} > NEW.tsv), and use NEW.tsv.",
        "JSON lines": f"Extract a key such as text (jq -r .text {paths[0]} > NEW.{source}), and use NEW.{{lang}}.",
        ".json": f"Extract the sentences (jq -r '.[]' {paths[0]} > NEW.{source}), and use NEW.{{lang}}.",
        "Parquet": f"Write one file with the columns {source} and {target}, and use its path.",
    }
    default = "Save each as plain text with one sentence per line, and use path/NEW.{lang}."
    raise InputError(
        f"{locator} is {FORM_NAMES[form]}, but files with one language each must be plain text. "
        f"{remedy.get(form) or remedy.get(FORM_NAMES[form], default)}"
    )


def conversion_remedy(locator: str) -> str:
    """Return a sentence that says how to convert a file of an unknown form, or nothing if the form has no name."""
    form, path = form_suffix(locator), quote(Path(locator))
    if FORM_NAMES.get(form) == "JSON lines":
        return f"Rename it (mv {path} NEW.jsonl). "
    if form == ".json":
        return f"Convert it to JSON lines (jq -c '.[]' {path} > NEW.jsonl). "
    if form == ".csv":
        return f"Convert it to tab-separated values (python -c {quote(CSV_TO_TSV)} < {path} > NEW.tsv). "
    if form in FORM_NAMES and form not in (".tsv", ".parquet"):
        return f"Save the text of {FORM_NAMES[form]} as tab-separated values. "
    return ""
