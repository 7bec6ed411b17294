"""The README of an exported model: what it is, what was measured, how it is loaded."""

from __future__ import annotations

from mytnano.inference.load import LoadedRun
from mytnano.interop.architectures import Target
from mytnano.interop.tokenizer_json import why_none
from mytnano.words import quantity

NUMBERS = (
    ("test_bpb", "bits per byte of the test text", "{:.4f}"),
    ("validation_bpb", "bits per byte of validation text", "{:.4f}"),
    ("test_loss", "nats per token of the test text", "{:.4f}"),
    ("test_accuracy", "first guesses right", "{:.2%}"),
    ("params", "parameters", "{:,}"),
    ("train_bytes", "bytes of training text read", "{:,}"),
    ("train_tokens", "tokens of training text read", "{:,}"),
    ("status", "status", "{}"),
)
"""Fields of ``result.json`` that are shown if they are there."""

LOADING = """```python
from transformers import AutoModelForCausalLM{and_tokenizer}

model = AutoModelForCausalLM.from_pretrained("this folder")
{tokenizer}```
"""


def model_card(run: LoadedRun, target: Target) -> str:
    """Markdown with the YAML head that the Hugging Face hub reads."""
    result, config = run.result, run.config
    rows = [
        f"| {words} | {form.format(result[name])} |"
        for name, words, form in NUMBERS
        if result.get(name) is not None
    ]
    if result.get("flops"):
        rows.append(f"| counted operations of training | {quantity(result['flops'], 'FLOP')} |")
    partial = "" if result.get("comparable", True) else "Only a part of the test text was scored.\n"
    missing = why_none(run.tokenizer)
    loading = LOADING.format(
        and_tokenizer="" if missing else ", AutoTokenizer",
        tokenizer="" if missing else 'tokenizer = AutoTokenizer.from_pretrained("this folder")\n',
    )
    about = (
        f"Not for AutoTokenizer: {missing}.\n"
        if missing
        else "The tokenizer puts the end-of-document, `<|endoftext|>`, before a text, as documents "
        "start in training; `add_special_tokens=False` leaves it out.\n"
    )
    model, size = config.model, run.tokenizer.vocab_size
    padding = f", padded to {model.vocab_size:,}" if model.vocab_size > size else ""
    shape = (
        f"A {target.class_name} of {model.layers} layers, width {model.width}, "
        f"{model.heads} query and {model.kv_heads} key/value heads."
    )
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {run.name}

{shape}
It was trained with mytNano in windows of {model.context} tokens, and reads no further back.

| | |
| --- | --- |
{chr(10).join(rows)}
| vocabulary | {run.tokenizer.name}, {size:,} ids{padding} |
| corpus, split | {config.data.corpus}, {config.data.split} |
| configuration | `{run.hash}` |

{partial}
Bits per byte: all nats for the text, ends of documents included, over ln 2 and its bytes.

{loading}
{about}"""
