"""MkDocs hooks that adapt the pages, which are written for GitHub, to the documentation site."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
ROOT_PAGES = {ROOT / "CONTRIBUTING.md": "contributing.md", ROOT / "CHANGELOG.md": "changelog.md"}
FONT = "STIXTwoMath-Regular.ttf"
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from the repository root and the font for formulas to the site."""
    spec: Any = find_spec("ziamath")
    sources = {**ROOT_PAGES, Path(spec.origin).parent / "fonts" / FONT: FONT}
    for path, name in sources.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Replace relative links with links that work on the site.

    A link to a page of the site leads to that page. A link to any other file leads to the file in the repository at
    ``repo_url``, a setting in mkdocs.yml. Without that setting, the link is replaced with its text.
    """
    docs = Path(config.docs_dir)

    def site_link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = Path(page.file.abs_src_path).parent.joinpath(target).resolve()
        if "://" in target or not path.exists():
            return match[0]
        if path in ROOT_PAGES or path.is_relative_to(docs):
            page_path = ROOT_PAGES.get(path) or path.relative_to(docs).as_posix()
            return f"[{text}]({os.path.relpath(page_path, os.path.dirname(page.file.src_uri) or '.')}{anchor})"
        if config.repo_url:
            return f"[{text}]({config.repo_url.rstrip('/')}/blob/main/{path.relative_to(ROOT).as_posix()}{anchor})"
        return text

    return LINK.sub(site_link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Expand all source code blocks, because the pages about the paper explain the code."""
    return html.replace('<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" open>')
