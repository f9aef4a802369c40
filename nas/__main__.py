"""`python -m nas` is `nas`."""

from nas.cli.main import main

if __name__ == "__main__":
    main()
