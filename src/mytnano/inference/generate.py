"""Text continued token by token, for a batch of prompts, with a cache or without, alike.

A model reads at most ``context`` tokens, as in training. When a row's window is full, its oldest
quarter is forgotten and the rest is read again from position 0: positions then stay among those
that were trained (learned ones have no others), and the cache stays exact, which it would not if
its oldest entries were merely dropped, for later entries depend on them. What a token is predicted
from follows from its index alone, so a cache changes the cost and not the text.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mytnano.errors import UserError
from mytnano.model.cache import Cache, why_no_cache
from mytnano.model.init import stream_seed
from mytnano.model.sampling import draw
from mytnano.model.transformer import Transformer
from mytnano.text.vocabulary import Tokenizer

FORGOTTEN = 4
"""One part in so many of a full window is forgotten at once: less makes the text dearer, more
leaves less of it in sight."""

PAD = 32
"""Windows are padded to a multiple of it, so that few sizes of mask are made."""


@dataclass(frozen=True)
class Sampling:
    """How an id is drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest.
        top_k: only among the so many likeliest; 0 is all.
        top_p: only among the likeliest that together reach this probability.
        min_p: only among those at least so many times as likely as the likeliest.
        seed: each prompt of a batch has a stream of its own from it.

    Raises:
        UserError: a temperature, k or p that is none.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # NaN is neither
            raise UserError(f"temperature must be 0 or above, got {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p:g}")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min_p must be from 0 to 1, got {self.min_p:g}")
        if self.top_k < 0:
            raise UserError(f"top_k must be 0 (all tokens) or more, got {self.top_k}")


GREEDY = Sampling(temperature=0)


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling = GREEDY,
    stop: Callable[[int, int], bool] = lambda row, id: False,
    cached: bool = True,
    vocabulary: int | None = None,
    numbers: Sequence[int] | None = None,
) -> Iterator[dict[int, int]]:
    """Continue prompts by up to ``tokens`` ids each.

    Args:
        model: in evaluation mode.
        prompts: ids of each, at least one; they need not be equally long.
        stop: told of every (row, id); True ends that row, its id included.
        cached: keep keys and values; where a model cannot, it is read whole each time.
        vocabulary: only the first so many ids are chosen among, as those behind them are padding;
            None is all.
        numbers: of each prompt's stream of draws, so that a prompt keeps its stream in whatever
            batch it is; None counts from 0.

    Yields:
        After each step row -> new id, of the rows that have not ended.

    Raises:
        UserError: the model's predictions are not numbers.
    """
    cached = cached and why_no_cache(model.config) is None
    ids = [list(prompt) for prompt in prompts]
    streams = [
        torch.Generator().manual_seed(stream_seed(sampling.seed, "sample", number))
        for number in numbers or range(len(ids))
    ]
    context = model.config.context
    first = [max(0, len(row) - context) for row in ids]
    active = list(range(len(ids)))
    cache: Cache | None = None
    for _ in range(tokens):
        full = [row for row in active if len(ids[row]) - first[row] > context]
        for row in full:
            first[row] = len(ids[row]) - kept(context)
        if cache is None or full:
            windows = [ids[row][first[row] :] for row in active]
            cache = Cache([len(window) for window in windows], context) if cached else None
            logits = read_whole(model, windows, cache)  # (rows, V)
        else:
            logits = read_next(model, [ids[row][-1] for row in active], cache)  # (rows, V)
        # Of the ids that stand for something, (rows, ids).
        chosen = choose(logits[:, :vocabulary], sampling, [streams[row] for row in active])
        step = dict(zip(active, chosen, strict=True))
        for row, id in step.items():
            ids[row].append(id)
        yield step
        going = [place for place, row in enumerate(active) if not stop(row, step[row])]
        if not going:
            return
        if len(going) < len(active):
            active = [active[place] for place in going]
            if cache is not None:
                cache.keep(going)


def choose(logits: Tensor, sampling: Sampling, streams: Sequence[torch.Generator]) -> list[int]:
    """An id for each row of logits (rows, V), drawn from the row's stream.

    Raises:
        UserError: the logits are not numbers.
    """
    likeliest = logits.max(-1)  # NaN if any is
    if not bool(likeliest.values.isfinite().all()):
        raise UserError("this run's predictions are not numbers: it diverged, and has no text")
    if sampling.temperature == 0:
        return likeliest.indices.tolist()
    how = (sampling.top_k, sampling.top_p, sampling.min_p)
    return [
        draw(row, sampling.temperature, stream, *how)
        for row, stream in zip(logits, streams, strict=True)
    ]


def kept(context: int) -> int:
    """Tokens of a full window that stay when it slides, one place left for the next."""
    return context - max(1, context // FORGOTTEN)


@torch.inference_mode()
def read_whole(model: Transformer, windows: list[list[int]], cache: Cache | None) -> Tensor:
    """Logits (rows, V) on the CPU of what follows each window; shorter ones are padded."""
    device = model.embedding.weight.device
    lengths = torch.tensor([len(window) for window in windows])  # (rows,)
    T = min(model.config.context, -(-int(lengths.max()) // PAD) * PAD)
    ids = torch.zeros(len(windows), T, dtype=torch.long)  # (rows, T)
    for row, window in zip(ids, windows, strict=True):
        row[: len(window)] = torch.tensor(window)
    states = model(ids.to(device), cache)  # (rows, T, D)
    last = states[torch.arange(len(windows)), lengths - 1]  # (rows, D)
    return model.head(last).float().cpu()


@torch.inference_mode()
def read_next(model: Transformer, ids: list[int], cache: Cache) -> Tensor:
    """Logits (rows, V) on the CPU of what follows one more id of each row."""
    states = model(torch.tensor(ids, device=model.embedding.weight.device)[:, None], cache)
    return model.head(states[:, -1]).float().cpu()  # (rows, V)


def start(tokenizer: Tokenizer, prompt: bytes) -> list[int]:
    """A prompt's ids behind the end-of-document, which is how a document starts in training."""
    return [tokenizer.eod_id, *tokenizer.encode(prompt).tolist()]


class Speaker:
    """Ids to text as they come, up to the first stop text.

    A character whose bytes are in several tokens waits for all of them, and what may be the
    beginning of a stop text waits until it is known not to be.

    Attributes:
        stopped: whether a stop text has come; nothing is said from there on.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [stop for stop in stops if stop]
        self._waiting = ""
        self.stopped = False

    def say(self, id: int) -> str:
        """The text that this id completes; '' while nothing is certain."""
        return self._certain(self._decoder.decode(self._tokenizer.token_bytes(id)))

    def end(self) -> str:
        """What is left: an unfinished character, and what did not become a stop text."""
        text = self._certain(self._decoder.decode(b"", final=True)) + self._waiting
        self._waiting = ""
        return text

    def _certain(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self._waiting + new
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            self.stopped, self._waiting = True, ""
            return text[: min(places)]
        begun = (
            size
            for stop in self._stops
            for size in range(1, len(stop))
            if text.endswith(stop[:size])
        )
        cut = len(text) - max(begun, default=0)
        self._waiting = text[cut:]
        return text[:cut]
