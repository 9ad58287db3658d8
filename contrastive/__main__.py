"""`python -m contrastive`."""

from contrastive.cli import main

if __name__ == "__main__":
    main()
