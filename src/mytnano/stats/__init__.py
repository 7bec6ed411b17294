"""From paired runs to a verdict: differences, evidence, intervals, and one rule that decides.

NumPy and SciPy only. :func:`mytnano.stats.verdict.judge` is the whole; ``docs/verdicts.md`` says in
plain words what it does.
"""

from mytnano.stats.differences import Pairs
from mytnano.stats.multiplier import Multiplier, compute_multiplier
from mytnano.stats.verdict import Rule, Verdict, judge

__all__ = ["Multiplier", "Pairs", "Rule", "Verdict", "compute_multiplier", "judge"]
