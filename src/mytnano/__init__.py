"""mytNano: a transformer design lab."""

__version__ = "0.1.0.dev0"
