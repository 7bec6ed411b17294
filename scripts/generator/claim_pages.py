"""A page for each claim: what the log says, how it is decided, what was found, and what is needed.

Pages are generated whole from the ledger and the evidence; nobody edits them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from generator.claim_figure import claim_figure
from generator.claims import FOLDER, judged
from generator.tables import (
    Project,
    bullets,
    conditions,
    conditions_of,
    environments_of,
    paragraphs,
    plain,
    table,
)
from mytnano import words
from mytnano.claims import figures, measured
from mytnano.claims.evidence import Evidence
from mytnano.claims.figures import ROUNDING, log
from mytnano.claims.judge import FORECAST, TWINS, Judged, needed
from mytnano.claims.ledger import Claim, Part, planned_minutes, question_file
from mytnano.claims.show import MARKS
from mytnano.lab.spec import Spec, read_spec

PAGES = "docs/claims"
IMAGES = "docs/img/claims"
NOTE = "<!-- Made whole by scripts/generate.py from the ledger and its evidence: edit those. -->"

TIMED = {"costs", "decoding"}
"""Measurements that train nothing."""

MEANING = {"holds": "holds", "refuted": "refuted", "open": "not decided", "missing": "not run"}
CHARACTERS = ("01", "02", "03", "04", "05")
"""Stages of the log whose models read characters; later ones mostly tokens of cl100k."""

STAGES = {"all": "Of the whole log", "scale": "Of the log's words on scale"}
"""What is said of claims that are from no single stage."""

Found = dict[str, Any]


def pages(project: Project) -> dict[str, str | None]:
    """Path -> content of every page and figure; None for one that should not be there."""
    all_of_them = judged(project)
    evidence = Evidence(shipped=project.root / FOLDER)
    found: dict[str, str | None] = dict.fromkeys(
        [*project.files(f"{PAGES}/*.md"), *project.files(f"{IMAGES}/*.svg")]
    )
    drawn = {}
    for name in evidence.names():
        if picture := claim_figure(project, name, evidence[name] or {}):
            drawn[name] = f"{IMAGES}/{name}.svg"
            found[drawn[name]] = picture
    for number, each in enumerate(all_of_them):
        beside = [all_of_them[i].claim.id for i in (number - 1, (number + 1) % len(all_of_them))]
        text = page(each, evidence, set(drawn), beside)
        found[f"{PAGES}/{each.claim.id}.md"] = text
    return found


def page(each: Judged, evidence: Evidence, drawn: set[str], beside: list[str]) -> str:
    """One claim; ``drawn`` are the ablations with a figure, ``beside`` the claims around it."""
    claim = each.claim
    parts = [
        NOTE,
        f"# {claim.id}: {claim.says}",
        " · ".join(["[All claims](../claims.md)", *(f"[{id}]({id}.md)" for id in beside)]),
        _origin(claim),
        f"**Verdict: {each.verdict}.** {_prediction(each)}",
    ]
    if claim.remark:
        parts.append(f"**Remark.** {claim.remark.strip()}")
    if claim.parts:
        parts += ["## What decides it", _rule(claim), "## What was found", _findings(each)]
    for name in needed(claim):
        parts += _question(name, evidence, drawn)
    if TWINS in map(evidence_name, each.sources):
        twins = evidence[TWINS] or {}
        parts += [f"## Measurement `{TWINS}`", _twins(twins)]
    if FORECAST in map(evidence_name, each.sources):
        found = evidence[FORECAST] or {}
        said = [*found["sentences"], f"Corpus: {found['corpus']}."]
        parts += [f"## Measurement `{FORECAST}`", bullets(map(plain, said))]
        parts.append(conditions_of(environments_of(found)))
    return paragraphs(*parts, "## To run it", _needs(each)) + "\n"


def _origin(claim: Claim) -> str:
    """Stage, unit, and whether the printed numbers are among the log's own results."""
    losses = {f"{row['loss']:.4f}" for row in log()["printed"].values()}
    printed = [x for x in re.findall(r"\d+\.\d{4}", claim.printed) if x in losses]
    unit = "character" if claim.stage in CHARACTERS else "token of the model's own vocabulary"
    said = f"{STAGES.get(claim.stage, f'Stage {claim.stage} of the log')}."
    if claim.printed:
        said += f" It prints {claim.printed}" + (f" (nats a {unit})." if printed else ".")
    own = log()["csv"].get(claim.stage, [])
    rows = [row for stage in log()["csv"].values() for row in stage]
    lost = [x for x in printed if not any(abs(float(x) - row) < ROUNDING for row in rows)]
    if not lost:
        return said
    verb = "is" if len(lost) == 1 else "are"
    span = ""
    if own:
        span = f"; its {len(own)} rows of this stage lie between {min(own):.4f} and {max(own):.4f}"
    return (
        f"{said} {words.listed(lost)} {verb} in none of the {len(rows)} rows of the log's own "
        f"results.csv{span}."
    )


def _prediction(each: Judged) -> str:
    claim, came = each.claim, each.as_predicted
    if claim.predict is None or claim.p is None:
        return "Nothing was predicted."
    when = "its last part was measured" if claim.late else "the first run"
    said = f"Predicted before {when}: {claim.predict}, with probability {claim.p:g}"
    if came is None:
        return f"{said}."
    square = (claim.p - float(came)) ** 2
    return f"{said}; this came {'true' if came else 'out wrong'} (Brier {square:.2f})."


def _rule(claim: Claim) -> str:
    """Each part as a condition."""
    return bullets(map(_condition, claim.parts))


def _condition(part: Part) -> str:
    if part.check:
        check = getattr(figures, part.check, None) or getattr(measured, part.check)
        return f"The check `{part.check}`. {(check.__doc__ or '').splitlines()[0]}"
    return (
        f"Arm `{part.arm}` of the ablation `{part.ablation}`: holds if it is "
        f"{_either(part.holds)}, refuted if {_either(part.refutes)}, otherwise open."
    )


def _either(options: tuple[str, ...]) -> str:
    *most, last = options
    return f"{', '.join(most)} or {last}" if most else last


def _findings(each: Judged) -> str:
    lines = [f"`{MARKS[f.state]}` **{MEANING[f.state]}**: {f.sentence}" for f in each.findings]
    sources = ", ".join(f"`{source}`" for source in each.sources)
    lines = list(dict.fromkeys(lines))
    return paragraphs(bullets(lines), f"Evidence: {sources}." if sources else "")


def _question(name: str, evidence: Evidence, drawn: set[str]) -> Iterator[str]:
    """An ablation: its question, arms, numbers, figure and conditions. A measurement: the last."""
    found = evidence[name]
    file = question_file(name)
    yield f"## {'Ablation' if file.is_file() else 'Measurement'} `{name}`"
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        yield paragraphs(_asked(_spec(text)), f"```yaml\n{text.strip()}\n```")
    elif found and found.get("question"):
        yield found["question"]
    if found is None:
        return
    if name in drawn:
        shown = "each dot a seed, the bar the interval, the line the mean"
        yield f"![Arms of {name} against its baseline: {shown}](../img/claims/{name}.svg)"
    if found.get("arms"):
        yield _arms(found)
    if found.get("designs"):
        yield _designs(found)
    spent = found.get("run_minutes")
    runs = f"{found['runs']} runs, tuning included" if found.get("runs") else "The runs"
    yield paragraphs(
        f"{runs}, took {spent:.0f} minutes in all by the clock, waiting included. "
        f"{conditions_of(environments_of(found))}"
        if spent
        else conditions_of(environments_of(found))
    )


def evidence_name(source: str) -> str:
    """``.../twins.json`` -> ``twins``."""
    return Path(source).stem


def _twins(found: Found) -> str:
    return paragraphs(
        f"{found['twins']} runs of `{found['design']}` that differ in nothing but the salt, "
        f"{found['train_bytes'] // 1024} KiB of training text each; they deviate by "
        f"{found['deviation_percent']:.2f} % of their mean, {found['mean']:.3f} BPB. See "
        "[verdicts](../verdicts.md#how-often-it-is-wrong).",
        conditions(found.get("environment")),
    )


@functools.cache
def _spec(text: str) -> Spec:
    return read_spec(yaml.safe_load(text))


def _asked(spec: Spec) -> str:
    """Budget and rule in a sentence, defaults included."""
    matched = {"flops": "FLOPs", "bytes": "bytes of text", "parameters": "parameters"}[spec.match]
    return (
        f"{spec.question} Equal {matched}, {spec.train_bytes // 1024} KiB of training text a run "
        f"of the baseline, at most {spec.seeds} paired seeds, a tuned learning rate for each arm; "
        f"margin {spec.margin:g} %, alpha {spec.alpha:g}. The rule is that of "
        "[verdicts](../verdicts.md#the-rule)."
    )


def _arms(found: Found) -> str:
    """A row an arm: difference, interval, p, seeds, and what could have been found."""
    rows = []
    for arm in found["arms"]:
        fit = arm.get("difference") is not None and arm.get("low") is not None
        rows.append(
            (
                f"`{arm['name']}`",
                plain(", ".join(arm.get("factors") or [])),
                f"**{arm['verdict']}**",
                f"{arm['difference']:+.2f} [{arm['low']:.2f}, {arm['high']:.2f}]" if fit else None,
                f"{arm['p_adjusted']:.2g}" if fit and arm.get("p_adjusted") is not None else None,
                arm.get("pairs"),
                words.number(arm.get("detectable_percent"), 1),
                f"{arm['prediction']}{_mark(arm)}" if arm.get("prediction") else None,
            )
        )
    header = ("arm", "changes", "verdict", "% of the baseline's BPB", "p", "pairs",
              "could find, %", "predicted")  # fmt: skip
    return table(header, rows, header[3:7])


def _mark(arm: Found) -> str:
    came = arm.get("as_predicted")
    return "" if came is None else ", rightly" if came else ", wrongly"


def _designs(found: Found) -> str:
    """What each arm was: size, score, and its tuned rate."""
    rows = [
        (
            f"`{name}`",
            words.number(design.get("bpb")),
            design.get("seeds"),
            words.quantity(design.get("params")),
            words.quantity(design.get("flops")),
            words.setting(design["lr"]) if design.get("lr") else None,
            "fair" if design.get("lr_fair") else design.get("lr_reason"),
        )
        for name, design in found["designs"].items()
    ]
    header = ("arm", "test BPB", "seeds", "parameters", "FLOPs", "LR", "certificate of the rate")
    return table(header, rows, header[1:6])


def _needs(each: Judged) -> str:
    claim = each.claim
    if claim.needs and FORECAST in map(evidence_name, each.sources):
        return f"The runs and the law are in [forecasts](../forecast.md). It takes {claim.needs}."
    if claim.needs:
        return f"Not decided here. It needs {claim.needs}."
    names = needed(claim)
    if not names:
        on_twins = TWINS in map(evidence_name, each.sources)
        rests = "the twins behind the rule" if on_twins else "figures of the log"
        return f"Nothing is run: it rests on {rests}, which come with the package."
    minutes = {name: planned_minutes(name) for name in names}
    told = "; ".join(
        f"`{name}`" + (f", about {m:.0f} core minutes if every seed is needed" if m else "")
        for name, m in minutes.items()
    )
    does = "measures" if set(names) <= TIMED else "trains and measures"
    return f"```sh\nmytnano claims run {claim.id}\n```\n\nIt {does} {told}."
