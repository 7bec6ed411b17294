"""``mytnano claims``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mytnano.claims.evidence import Evidence
from mytnano.claims.judge import judge
from mytnano.claims.ledger import chosen
from mytnano.claims.show import as_json, print_claim, print_claims
from mytnano.errors import UserError
from mytnano.files import json_text

RUN = "run"


def give_claims(
    words: tuple[str, ...],
    json: bool,
    out: Path,
    device: str,
    workers: int | None,
    console: Console,
) -> None:
    """List claims, show some, or run what some rest on and show them.

    Raises:
        UserError: there is no such claim, or nothing to run.
    """
    run = words[:1] == (RUN,)
    ids = words[1:] if run else words
    claims = chosen(ids)
    if run and not ids:
        raise UserError("name the claims to run, such as C13; each says what it would take")
    if run:
        from mytnano.claims.run import run_claims  # imports torch, which a listing does without

        # The JSON alone goes to standard output.
        run_claims(claims, out, Console(stderr=True) if json else console, device, workers)
    evidence = Evidence(out)
    judged = [judge(claim, evidence) for claim in claims]
    if json:
        print(json_text(as_json(judged, evidence)))
    elif ids:
        for each in judged:
            print_claim(each, evidence, console)
    else:
        print_claims(judged, evidence, console)
