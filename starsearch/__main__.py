"""`python -m starsearch`, as torchrun starts it."""

from starsearch.cli import main

if __name__ == "__main__":
    main()
