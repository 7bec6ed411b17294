"""The engine's speed against nanoGPT and Hugging Face Llama: ``make bench``."""

from mytnano.bench.compare import run_bench

__all__ = ["run_bench"]
