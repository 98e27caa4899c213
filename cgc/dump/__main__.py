"""`python -m cgc.dump`."""

import sys

from cgc.dump import main

if __name__ == "__main__":
    sys.exit(main())
