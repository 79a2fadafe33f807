"""What mkdocs needs so that links and anchors of docs/ are the same on the site as in the repository.

A page of docs/ may link to any file of the repository. That file becomes part of the site, at its path in the
repository; a linked Markdown file becomes a page, whose links are followed too. A link to nothing is left as it is, and
mkdocs warns of it, which `strict` makes an error.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HOME = DOCS / "README.md"
IN_NAVIGATION = (ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "results" / "README.md")
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def on_config(config: Any) -> Any:
    """Anchors as GitHub makes them."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside docs/ that pages link to."""
    for path in sorted(linked_files()):
        files.append(File.generated(config, site_path(path), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page to where their targets are on the site."""
    source = Path(page.file.abs_src_path)
    folder = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        path = target(source, link[0])
        return link[0] if path is None else posixpath.relpath(site_path(path), folder or ".")

    return LINK.sub(moved, markdown)


def target(source: Path, link: str) -> Path | None:
    """The file of the repository that a link of the page `source` names; None where it names another thing."""
    if "://" in link or link.startswith("mailto:"):
        return None
    path = Path(os.path.normpath(source.parent / link))
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def site_path(path: Path) -> str:
    """Where a file of the repository is on the site; the page of the repository itself is the home page."""
    path = HOME if path == ROOT / "README.md" else path
    return path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix()


def linked_files() -> set[Path]:
    """Files outside docs/ that its pages link to, and the pages among them in turn."""
    found = set(IN_NAVIGATION)
    waiting = [*DOCS.rglob("*.md"), *IN_NAVIGATION]
    while waiting:
        for path in links(waiting.pop()):
            if path not in found and not path.is_relative_to(DOCS) and path != ROOT / "README.md":
                found.add(path)
                waiting += [path] if path.suffix == ".md" else []
    return found


def links(page: Path) -> Iterator[Path]:
    """The files of the repository that a page links to."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path = target(page, link)
        if path is not None:
            yield path
