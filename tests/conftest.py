"""One thread for every test: results of some kernels depend on their number, and so does speed."""

import torch

torch.set_num_threads(1)
