"""What MkDocs is told besides mkdocs.yml: pages of the root, links that serve both, the claims.

A link in a document is written for a reader of the repository. Links to CONTRIBUTING.md and
CHANGELOG.md, which lie beside docs/, and those in them, are turned into links of the site here. The
pages of the claims are added below their overview, in the order of the ledger, and pages that
mkdocs.yml does not place yet stand at the end, so that a new one is never lost.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mytnano.claims.ledger import ledger

ROOT = Path(__file__).resolve().parent.parent
FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
CLAIMS = "The claims"
OTHER_STAGES = {"all": "The whole log", "scale": "Scale"}
MORE = "More"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, and place every page in the navigation."""
    for name, source in FROM_ROOT.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    names = [file.src_uri for file in files.documentation_pages()]
    config.nav = [with_claims(entry, names) for entry in config.nav or []]
    placed = set(re.findall(r"[\w/-]+\.md", str(config.nav)))
    left = sorted(name for name in names if name not in placed)
    if left:
        config.nav.append({MORE: left})
    return files


def with_claims(entry: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """An entry of the navigation, with the pages of the claims below theirs."""
    ((title, below),) = entry.items()
    if title == CLAIMS:
        return {title: [below, *claims_by_stage(names)]}
    return {title: [with_claims(e, names) for e in below] if isinstance(below, list) else below}


def claims_by_stage(names: list[str]) -> list[dict[str, list[dict[str, str]]]]:
    """The claims' pages that there are, below the stage of the log that they are from."""
    stages: dict[str, list[dict[str, str]]] = {}
    for id, claim in ledger().items():
        if (name := f"claims/{id}.md") in names:
            stage = OTHER_STAGES.get(claim.stage, f"Stage {claim.stage}")
            stages.setdefault(stage, []).append({id: name})
    return [{stage: pages} for stage, pages in stages.items()]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links of the repository into links of the site."""
    here = page.file.src_uri
    for name, source in FROM_ROOT.items():
        up = "" if here in FROM_ROOT else "../" * (1 + here.count("/"))
        markdown = markdown.replace(f"]({up}{source}", f"]({name}")
    if here in FROM_ROOT:
        markdown = markdown.replace("](docs/", "](").replace("[LICENSE](LICENSE)", "LICENSE")
        markdown = markdown.replace("[licence](LICENSE)", "licence")
    return markdown
