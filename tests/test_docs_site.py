"""The site: it builds without a warning, holds every page, and loads nothing from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from docs_toys import ROOT

pytestmark = pytest.mark.extras

LOADED = {
    "script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src",
    "video": "src", "audio": "src", "object": "data", "use": "href",
}  # fmt: skip
"""What a browser fetches by itself, by tag."""


class Loads(HTMLParser):
    """Collects what a page loads, and where it leads."""

    def __init__(self):
        super().__init__()
        self.loaded, self.links = [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if LOADED.get(tag) in given and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def build(folder, root=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", folder],
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason='needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(site):
    return {
        path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")
    }


def test_every_document_is_a_page_and_nothing_else_is_there(site):
    wanted = {p.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
              for p in (ROOT / "docs").rglob("*.md")}  # fmt: skip
    assert set(pages(site)) == wanted | {"contributing.html", "changelog.html", "404.html"}
    kinds = {path.suffix for path in site.rglob("*") if path.is_file()}
    assert not kinds & {".py", ".md", ".yaml", ".csv"}


def test_nothing_is_loaded_from_elsewhere(site):
    for name, text in pages(site).items():
        found = Loads()
        found.feed(text)
        assert found.loaded
        for address in found.loaded:
            assert not re.match(r"([a-z]+:)?//", address), (name, address)
        assert 'class="mermaid"' not in text, "Material fetches its renderer"
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""(url\(|@import\s|(?<!xmlns=)href=)["']?(https?:)?//""", text), path


def test_every_link_inside_the_site_leads_somewhere(site):
    found = pages(site)
    ids = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in found.items()}
    for name, text in found.items():
        page = Loads()
        page.feed(text)
        for link in page.links:
            file, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link) or name == "404.html":
                continue
            target = (site / name).parent / file if file else site / name
            inside = Path(os.path.normpath(target)).relative_to(site).as_posix()
            inside = "index.html" if inside == "." else inside
            assert inside in found or target.is_file(), (name, link)
            assert not anchor or anchor in ids[inside] | {"__codelineno"}, (name, link)


def test_pages_are_rendered_and_not_shown_as_text(site):
    for name, text in pages(site).items():
        shown = re.sub(r"<(code|pre|script)\b.*?</\1>", "", text, flags=re.DOTALL)
        shown = re.sub(r"<[^>]*>", "", shown)
        for left in ("```", "~~", "](", "| ---", "**"):
            assert left not in shown, (name, left)


def test_a_broken_link_fails_the_build(tmp_path):
    pytest.importorskip("mkdocs")
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "docs/lab.md").open("a", encoding="utf-8") as file:
        file.write("\n[nowhere](method.md#no-such-place)\n")
    done = build(tmp_path / "out", tmp_path)
    assert done.returncode != 0 and "no-such-place" in done.stdout + done.stderr
