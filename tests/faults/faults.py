"""Faults that storage and people cause, by seed; `make faults` looks for an hour."""

import os
import random
from pathlib import Path

ROUNDS = int(os.environ.get("FAULTS", "1"))
"""How many times more faults than in `make test`."""


def seeds(few: int) -> range:
    """The seeds to try: a few in `make test`, many in `make faults`."""
    return range(few * ROUNDS)


def files(folder: Path) -> list[Path]:
    """Files with contents, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def flip_a_bit(folder: Path, seed: int) -> str:
    """Flips one bit of one file, as failing storage does, and says where."""
    chance = random.Random(seed)
    path = chance.choice(files(folder))
    content = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"seed {seed}: bit {bit} of byte {place} of {path.relative_to(folder)}"
