"""`python -m seg_mia`."""

import sys

from seg_mia.cli import main

if __name__ == "__main__":
    sys.exit(main())
