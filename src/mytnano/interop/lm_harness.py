"""A finished run as a model of EleutherAI's lm-evaluation-harness, under the name ``mytnano``.

    python -m mytnano.interop.lm_harness run --model mytnano --model_args run=RUN --tasks TASKS

is the harness's own command line with this model registered. Every text begins with the
end-of-document, as documents do in training.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mytnano.environment import choose_device
from mytnano.errors import UserError, needs
from mytnano.inference.generate import Sampling, Speaker, generate
from mytnano.inference.load import load_run
from mytnano.measure.evaluate import tokens_at_once
from mytnano.model.loss import IGNORE, head_scores

try:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ModuleNotFoundError as error:
    lacking = needs("the lm-evaluation-harness", error.name or "lm_eval", "lm-eval")
    if __name__ != "__main__":
        raise lacking from None
    sys.exit(f"mytnano: {lacking}")

Scored = tuple[tuple[str, str], list[int], list[int]]
"""A request as the harness encodes it: its texts, the context's ids, the continuation's."""

Window = tuple[int, list[int], list[int]]
"""The number of a request, and the inputs and targets of a window; a target may be IGNORE."""


@register_model("mytnano")
class MytnanoLM(TemplateLM):
    """Log-likelihoods and continuations of a run."""

    def __init__(
        self,
        run: str = "",
        device: str | None = None,
        batch_size: int | str = 16,
        max_gen_toks: int = 256,
        **ignored: Any,
    ) -> None:
        """``run`` as in ``mytnano eval``; ``batch_size`` prompts are continued at a time.

        The harness asks for a GPU by default: where there is none it is the CPU.

        Raises:
            UserError: no run is given, it cannot be loaded, or there is no such device.
        """
        super().__init__()
        if not run:
            raise UserError("say which run to evaluate: --model_args run=RUN")
        kind = (device or "cpu").partition(":")[0]
        if kind == "cuda" and not torch.cuda.is_available():
            device = kind = "cpu"
        choose_device(kind)
        self.loaded = load_run(run, device)
        self.vocabulary = self.loaded.tokenizer
        self.context = self.loaded.config.model.context
        self.rows = max(1, int(batch_size)) if str(batch_size).isdigit() else 16
        self.max_gen_toks = max_gen_toks

    @property
    def eot_token_id(self) -> int:
        return self.vocabulary.eod_id

    @property
    def tokenizer_name(self) -> str:
        return f"mytnano-{self.vocabulary.fingerprint[:12]}"

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **ignored: Any
    ) -> list[int]:
        return self.vocabulary.encode(string.encode(errors="surrogatepass")).tolist()

    def _loglikelihood_tokens(
        self, requests: list[Scored], **ignored: Any
    ) -> list[tuple[float, bool]]:
        """Log-probability of each continuation, and whether greedy text would be it.

        A context is cut on the left to what the window holds; a continuation longer than a window
        is scored in several, as test text is.
        """
        windows: list[Window] = []
        for number, (_, context, continuation) in enumerate(requests):
            begun = context if context[:1] == [self.eot_token_id] else [self.eot_token_id, *context]
            windows += [(number, *w) for w in self._windows(begun, continuation)]
        return self._totals(windows, len(requests))

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in the harness's own windows."""
        windows: list[Window] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for window in get_rolling_token_windows(ids, self.eot_token_id, self.context, 1):
                context, continuation = map(list, make_disjoint_window(window))
                targets = [IGNORE] * (len(context) - 1) + continuation
                windows.append((number, (context + continuation)[:-1], targets))
        return [total for total, _ in self._totals(windows, len(requests))]

    def _totals(self, windows: list[Window], requests: int) -> list[tuple[float, bool]]:
        """Of each request, over its windows: log-probability, and whether greedy text is it."""
        totals, greedy = [0.0] * requests, [True] * requests
        for part in _batches(windows, self._tokens_at_once):
            nats, right = self._score(part)
            for (number, *_), paid, correct in zip(part, nats, right, strict=True):
                totals[number] -= paid
                greedy[number] &= correct
        return list(zip(totals, greedy, strict=True))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop string, the end of the document, or the most tokens."""
        answers = [""] * len(requests)
        order = sorted(range(len(requests)), key=lambda i: repr(requests[i].args[1]))
        for part in (order[i : i + self.rows] for i in range(0, len(order), self.rows)):
            settings = [requests[i].args[1] for i in part]
            for chosen in {repr(one): one for one in settings}.values():
                mine = [i for i in part if requests[i].args[1] == chosen]
                texts = self._continue([requests[i].args[0] for i in mine], chosen, mine)
                for i, text in zip(mine, texts, strict=True):
                    answers[i] = text
        return answers

    def _continue(
        self, prompts: list[str], settings: dict[str, Any], numbers: list[int]
    ) -> list[str]:
        """Texts; ``numbers`` are the requests', by which each draws as it would in any batch."""
        until = settings.get("until") or []
        until = [until] if isinstance(until, str) else list(until)
        temperature = float(settings.get("temperature") or 0)
        sampling = Sampling(
            temperature=temperature if settings.get("do_sample", temperature > 0) else 0.0,
            top_k=int(settings.get("top_k") or 0),
            top_p=float(settings.get("top_p") or 1),
            min_p=float(settings.get("min_p") or 0),
        )
        speakers = [Speaker(self.vocabulary, until) for _ in prompts]
        texts = [""] * len(prompts)

        def ended(row: int, id: int) -> bool:
            texts[row] += speakers[row].say(id)
            return id == self.eot_token_id or speakers[row].stopped

        ids = [[self.eot_token_id, *self.tok_encode(prompt)] for prompt in prompts]
        most = int(settings.get("max_gen_toks", self.max_gen_toks))
        size = self.vocabulary.vocab_size
        for _ in generate(
            self.loaded.model, ids, most, sampling, ended, vocabulary=size, numbers=numbers
        ):
            pass
        return [text + speaker.end() for text, speaker in zip(texts, speakers, strict=True)]

    def _windows(
        self, context: list[int], continuation: list[int]
    ) -> Iterable[tuple[list[int], list[int]]]:
        """Inputs and targets of the windows that predict a continuation; targets may be IGNORE."""
        size = self.context
        ids = context + continuation
        if len(continuation) < size:
            ids = ids[-(size + 1) :]
            silent = len(ids) - 1 - len(continuation)
            yield ids[:-1], [IGNORE] * silent + continuation
            return
        ids = ids[len(context) - 1 :]
        for begin in range(0, len(continuation), size):
            end = min(begin + size, len(continuation))
            yield ids[begin:end], ids[begin + 1 : end + 1]

    @property
    def _tokens_at_once(self) -> int:
        return tokens_at_once(self.loaded.model.head.weight.device)

    @torch.inference_mode()
    def _score(self, part: list[Window]) -> tuple[list, list]:
        """Nats of each window's targets, and whether every one was the first guess."""
        T = len(part[0][1])
        x = torch.zeros(len(part), T, dtype=torch.long)  # (B, T)
        y = torch.full((len(part), T), IGNORE)  # (B, T)
        for row, (_, inputs, targets) in enumerate(part):
            x[row, : len(inputs)] = torch.tensor(inputs)
            y[row, : len(targets)] = torch.tensor(targets)
        model, size = self.loaded.model, self.vocabulary.vocab_size
        head = model.head.weight  # (V, D)
        states, targets, cap = model(x.to(head.device)), y.to(head.device), model.config.softcap
        nats, right = head_scores(states, head, targets, cap)  # (B, T) each
        if size < len(head):  # greedy text has no padding, however likely it is
            _, right = head_scores(states, head[:size], targets, cap)  # (B, T)
        every = (right.cpu() | (y == IGNORE)).all(1)  # (B,)
        return nats.cpu().double().sum(1).tolist(), every.tolist()


def _batches(windows: list[Window], tokens: int) -> Iterator[list[Window]]:
    """Windows, longest first, as many at a time as ``tokens`` tokens hold."""
    windows = sorted(windows, key=lambda window: -len(window[1]))
    begin = 0
    while begin < len(windows):
        size = max(1, tokens // len(windows[begin][1]))
        yield windows[begin : begin + size]
        begin += size


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        print(f"mytnano: {error}", file=sys.stderr)
        sys.exit(2)
