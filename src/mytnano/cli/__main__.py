"""``python -m mytnano.cli``."""

from mytnano.cli import main

main()
