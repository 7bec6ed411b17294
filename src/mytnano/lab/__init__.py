"""The lab: a design question becomes a controlled ablation, and the answer a verdict.

    from mytnano.lab import ablate
    answer = ablate({"arms": {"swiglu": {"ffn": "swiglu", "ffn_width": 171}}}, "out/swiglu")
    print(answer.sentences[0])

is the whole of what ``mytnano ablate`` does; see :mod:`mytnano.lab.spec` for what may be asked.
"""

from mytnano.lab.run import Answer, ablate, show_plan
from mytnano.lab.spec import Spec, read_spec

__all__ = ["Answer", "Spec", "ablate", "read_spec", "show_plan"]
