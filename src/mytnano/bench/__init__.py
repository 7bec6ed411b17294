"""The engine's speed beside its peers', of fleets beside runs alone, and of writing text."""

from mytnano.bench.compare import run_bench
from mytnano.bench.decode import run_decode_bench
from mytnano.bench.fleet import run_fleet_bench

__all__ = ["run_bench", "run_decode_bench", "run_fleet_bench"]
