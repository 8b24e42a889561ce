import sys

from unikernel.linux.steps import main

if __name__ == "__main__":
    sys.exit(main())
