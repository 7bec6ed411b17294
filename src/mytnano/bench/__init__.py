"""The engine's speed against nanoGPT and Hugging Face Llama, and of fleets against runs alone."""

from mytnano.bench.compare import run_bench
from mytnano.bench.fleet import run_fleet_bench

__all__ = ["run_bench", "run_fleet_bench"]
