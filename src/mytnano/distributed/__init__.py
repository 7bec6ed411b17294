"""The same run on many devices: ranks started by torchrun, weights sharded over them."""
