"""Through the lm-evaluation-harness, on local tasks, a run scores what our own evaluator says."""

import json
import math
import os
import subprocess
import sys

import pytest
from docs_blocks import blocks
from run_toys import toy_folder

from mytnano.inference.generate import generate, start
from mytnano.inference.load import load_run
from mytnano.inference.pairs import advantages, read_pairs, share
from mytnano.measure.evaluate import score_tokens
from mytnano.text.stream import encode_documents

pytestmark = pytest.mark.extras

PAIRS = [
    {"sentence_good": f"We the people {a} in {b}.", "sentence_bad": f"We people the {a} in {b}."}
    for a in ("agree", "don't", "of the Union", "€5")
    for b in ("1789", "2024", "Peace")
]

ROLLING_TASK = """
task: toy_rolling
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/texts.jsonl"}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}]
"""

UNTIL_TASK = """
task: toy_until
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{folder}/texts.jsonl"}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}"
doc_to_target: "x"
generation_kwargs: {{until: ["e"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""

TEXTS = ["We the people", "Union, in 1789"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    pytest.importorskip("lm_eval")
    folder = tmp_path_factory.mktemp("tasks")
    lines = "".join(json.dumps(pair) + "\n" for pair in PAIRS)
    (folder / "pairs.jsonl").write_text(lines)
    texts = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (folder / "texts.jsonl").write_text(texts)
    (page,) = (b.text for b in blocks() if b.page == "docs/use.md" and "task: pairs" in b.text)
    (folder / "p.yaml").write_text(page.replace("PAIRS.jsonl", f"{folder}/pairs.jsonl"))
    for name, task in (("r", ROLLING_TASK), ("u", UNTIL_TASK)):
        (folder / f"{name}.yaml").write_text(task.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(toy_folder(tmp_path_factory.mktemp("run"), "bpe:300"))


@pytest.fixture(scope="module")
def found(tasks, run):
    import lm_eval
    from lm_eval.tasks import TaskManager

    from mytnano.interop.lm_harness import MytnanoLM

    return lm_eval.simple_evaluate(
        model=MytnanoLM(str(run.folder)),
        tasks=["pairs", "toy_rolling", "toy_until"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )


def test_minimal_pairs(found, tasks, run):
    pairs = read_pairs(tasks / "pairs.jsonl")
    ours = advantages(run, pairs)
    assert found["results"]["pairs"]["acc,none"] == share("all", ours).share
    assert 0 < share("all", ours).share < 1
    samples = sorted(found["samples"]["pairs"], key=lambda sample: sample["doc_id"])
    for sample, nats in zip(samples, ours, strict=True):
        (good, _), (bad, _) = sample["filtered_resps"]
        assert good - bad == pytest.approx(nats, abs=1e-4)


def test_rolling(found, run):
    documents = [text.encode() for text in TEXTS]
    stream = encode_documents(documents, run.tokenizer)
    nats, _ = score_tokens(run.model, stream)
    nats[stream.ids == run.tokenizer.eod_id] = 0
    bits = nats.sum() / math.log(2) / sum(map(len, documents))
    assert found["results"]["toy_rolling"]["bits_per_byte,none"] == pytest.approx(bits, rel=1e-5)


def test_generate_until(found, run):
    end = run.tokenizer.eod_id
    for sample in found["samples"]["toy_until"]:
        ids = start(run.tokenizer, sample["doc"]["text"].encode())
        new = [step[0] for step in generate(run.model, [ids], 12, stop=lambda row, id: id == end)]
        text = run.tokenizer.decode(new).decode(errors="replace")
        assert sample["filtered_resps"] == [text.partition("e")[0]]


def test_draws_follow_the_request_and_not_the_batch(run):
    from lm_eval.api.instance import Instance

    from mytnano.interop.lm_harness import MytnanoLM

    drawn = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 12}
    asked = [
        Instance(request_type="generate_until", doc={}, arguments=("We the", drawn), idx=i)
        for i in range(4)
    ]
    one, all_at_once = (
        MytnanoLM(str(run.folder), batch_size=size).generate_until(asked) for size in (0, 4)
    )
    assert one == all_at_once and len(set(one)) == 4


def test_long_texts_and_greedy_flags(run):
    from lm_eval.api.instance import Instance

    from mytnano.interop.lm_harness import MytnanoLM

    model = MytnanoLM(str(run.folder))

    def asked(kind, *args):
        return Instance(request_type=kind, doc={}, arguments=args, idx=0)

    long = "We the people of the Union, in 1789. " * 20
    assert len(run.tokenizer.encode(long.encode())) > 2 * model.context
    ids = start(run.tokenizer, b"We the")
    for step in generate(run.model, [ids], 3):
        ids.append(step[0])
    ((_, likely),) = model._loglikelihood_tokens([(("", ""), ids[:-3], ids[-3:])])
    assert likely
    (whole, _), (_, unlikely) = model.loglikelihood(
        [asked("loglikelihood", "", long), asked("loglikelihood", long, " €€€")]
    )
    stream = encode_documents([long.encode()], run.tokenizer)
    assert whole == pytest.approx(-score_tokens(run.model, stream)[0][:-1].sum(), rel=1e-5)
    assert not unlikely


def harness(folder, tasks, out):
    return subprocess.run(
        [
            sys.executable, "-m", "mytnano.interop.lm_harness", "run", "--model", "mytnano",
            "--model_args", f"run={folder}", "--tasks", "pairs",
            "--include_path", str(tasks), "--output_path", str(out),
        ],
        capture_output=True, text=True, cwd=out.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def test_a_run_that_is_none_is_a_sentence(tasks, tmp_path):
    done = harness("nope", tasks, tmp_path / "out")
    assert done.returncode == 2 and "mytnano: 'nope' is not a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_harnesss_own_command_line(tasks, run, tmp_path):
    done = harness(run.folder, tasks, tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    ours = share("all", advantages(run, read_pairs(tasks / "pairs.jsonl"))).share
    (file,) = (tmp_path / "out").rglob("results*.json")
    assert json.loads(file.read_text())["results"]["pairs"]["acc,none"] == ours
