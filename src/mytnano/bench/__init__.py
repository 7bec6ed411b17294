"""Races: the engine beside its peers, fleets beside runs alone, writing, time to quality."""

from mytnano.bench.compare import run_bench
from mytnano.bench.decode import run_decode_bench
from mytnano.bench.fleet import run_fleet_bench
from mytnano.bench.quality import run_quality_bench

__all__ = ["run_bench", "run_decode_bench", "run_fleet_bench", "run_quality_bench"]
