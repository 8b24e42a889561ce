import sys

from unikernel.cli import main

if __name__ == "__main__":
    sys.exit(main())
