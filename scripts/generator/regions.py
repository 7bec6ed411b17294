"""Every region by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from generator import (
    bench,
    claims,
    designs,
    findings,
    gpu,
    groups,
    lab,
    ladder,
    matrices,
    models,
    precision,
    rungs,
    scale,
    sources,
    tour,
    verdicts,
)
from generator.tables import Project
from mytnano.config import RunConfig
from mytnano.designs.groups import WIDER_GROUPS
from mytnano.designs.rungs import RUNGS

Region = Callable[[Project], str]

HERE = ""


def regions() -> dict[str, Region]:
    """Region name -> function that writes its content."""
    quick, standard = {"budget": "quick"}, {"budget": "standard"}
    core, more = ("core",), ("as-logged", "long")
    named: dict[str, Region] = {
        "headline": partial(ladder.headline, **quick),
        "headline-site": partial(ladder.headline, **quick, images="img"),
        "ladder-quick": partial(ladder.ladder, **quick, groups=core, page=HERE),
        "as-logged-quick": partial(ladder.ladder, **quick, groups=("as-logged",), page=HERE),
        "ladder-standard": partial(ladder.ladder, **standard, groups=(*core, *more), page=HERE),
        "findings": findings.findings,
        "standing-standard": partial(findings.standing, **standard),
        "log-quick": partial(ladder.log, **quick),
        "defects-quick": partial(ladder.defects, **quick),
        "depth-quick": partial(ladder.depth, **quick),
        "depth-standard": partial(ladder.depth, **standard),
        "attention-quick": partial(ladder.attention, **quick),
        "corpus-quick": partial(ladder.corpus, **quick),
        "other-rungs": rungs.others,
        "long-rungs": rungs.long,
        "learning-rates": designs.rates,
        "vocabulary": designs.vocabulary,
        "rate-rule": designs.rate_rule,
        "recipe-rates": designs.recipe_rates,
        "budgets": designs.budgets,
        "dependencies": sources.dependencies,
        "commands": sources.commands,
        "models": models.models,
        "models-curves": models.curves,
        "models-samples": models.samples,
        "bench": bench.race,
        "bench-quality": bench.quality,
        "bench-tokenizers": bench.tokenizers,
        "bench-decode": bench.decode,
        "constants-verdicts": verdicts.constants,
        "verdict-errors": verdicts.errors,
        "verdict-planted": verdicts.planted,
        "verdict-twins": verdicts.twins,
        "lab-answers": lab.answers,
        "lab-decided": lab.decided,
        "lab-example": lab.example,
        "lab-small": lab.small,
        "lab-questions": lab.questions,
        "lab-evidence": lab.evidence,
        "verdict-detectable": verdicts.detectable,
        "precision": precision.precision,
        "groups-plan": groups.plan,
        "groups-rates": groups.evidence,
        "coordinates": scale.coordinates,
        "lr-transfer": scale.lr_transfer,
        "loader": scale.loader,
        "memory": scale.memory,
        "gpu": gpu.gpu,
        "whole-recipe": scale.whole_recipe,
        "forecast": scale.forecast,
        "claims-overview": claims.overview,
        "claims-verdicts": claims.verdicts,
        "claims-wanting": claims.wanting,
        "claims-depth": matrices.depth,
        "claims-vocabularies": matrices.vocabularies,
        "claims-sources": claims.sources,
    }
    named["tour-conditions"] = tour.about
    named |= {f"{tour.PREFIX}{name}": partial(tour.output, name=name) for name in tour.names()}
    named |= {
        f"settings-{section}": partial(designs.settings, section=section)
        for section in RunConfig.model_fields
    }
    named |= {
        f"rung-{id}": partial(rungs.rung, id=id) for id, r in RUNGS.items() if r.group != "long"
    }
    named |= {f"group-{name}": partial(groups.group, name=name) for name in WIDER_GROUPS}
    return named | {
        f"constants-{page}": partial(designs.constants, page=page) for page in designs.CONSTANTS
    }
