"""What the site shows otherwise than GitHub, where the repository is around each page."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {ROOT / "CONTRIBUTING.md": "contributing.md", ROOT / "CHANGELOG.md": "changelog.md"}
FONT = "STIXTwoMath-Regular.ttf"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand at the root of the repository, and a font for formulas."""
    spec: Any = find_spec("ziamath")
    added = {**PAGES, Path(spec.origin).parent / "fonts" / FONT: FONT}
    for path, name in added.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links to where the site has the page; a file that is no page is named without a link."""
    docs = Path(config.docs_dir)

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], found[2], found[3] or ""
        path = Path(page.file.abs_src_path).parent.joinpath(target).resolve()
        if "://" in target or not path.exists():
            return found[0]
        if path in PAGES or path.is_relative_to(docs):
            place = PAGES.get(path) or path.relative_to(docs).as_posix()
            return f"[{text}]({os.path.relpath(place, os.path.dirname(page.file.src_uri) or '.')}{anchor})"
        return text

    return LINK.sub(link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Sources are what the pages of the paper's parts are about: show them unfolded."""
    return html.replace('<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" open>')
