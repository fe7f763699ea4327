"""`python -m pygpt` is `pygpt`."""

from pygpt.cli import main

if __name__ == "__main__":
    main()
