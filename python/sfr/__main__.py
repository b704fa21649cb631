"""``python -m sfr`` is the command ``sfr``."""

from sfr.cli import main

if __name__ == "__main__":
    main()
