"""``python -m mytnano``, which is how torchrun starts ranks."""

from mytnano.cli import main

if __name__ == "__main__":
    main()
