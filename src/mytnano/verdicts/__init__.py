"""`mytnano verdict`: the runs of any trainer, in one CSV file, judged by :mod:`mytnano.stats`."""
