"""Faults that storage and people cause, by seed; `make faults` looks for an hour."""

import contextlib
import json
import os
import random
import signal
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


NASTY = (
    *(None, True, -1, 0, 1, 3.5, -0.0, 2**31, 2**63, 10**30, 10**400, 1e39, 1e308),
    *("", " ", "x" * 100_000, "\ud800", "\0", "../../../etc/passwd", "/etc/passwd", "nan", "1"),
    *([], [[]], {}, {"a": {}}, [None], ["a"], {"": 0}),
)
"""Values that some reader may not expect."""
NOT_JSON = (b"NaN", b"-Infinity", b"1e999", b"[" * 5000, b'{"a":' * 5000, b"9" * 6000, b"'a'", b"")


def mutate(path: Path, chance: random.Random) -> str:
    """Changes a file at random: its bytes, or a value if it is JSON or has JSON lines."""
    content = path.read_bytes()
    kinds = [_bytes]
    if path.suffix in (".json", ".jsonl"):
        kinds += [_value, _value, _value, _literal]
    elif path.suffix == ".safetensors":
        kinds += [_header, _header]
    kind = chance.choice(kinds)
    try:
        changed = kind(content, chance)
    except (ValueError, IndexError):  # an earlier mutation left no JSON
        changed = _bytes(content, chance)
    path.write_bytes(changed)
    return f"{kind.__name__} in {path.name}"


def _bytes(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) + 1)
    end = min(len(content), place + chance.choice((1, 2, 8, 100)))
    other = chance.choice((b"", chance.randbytes(end - place), content[place:end] * 2))
    return content[:place] if chance.random() < 0.2 else content[:place] + other + content[end:]


def _value(content: bytes, chance: random.Random) -> bytes:
    lines = content.split(b"\n") if b"\n{" in content else [content]
    number = chance.randrange(len(lines))
    lines[number] = json.dumps(_changed(json.loads(lines[number]), chance)).encode()
    return b"\n".join(lines)


def _changed(value, chance: random.Random):
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(sorted(value))
        what = chance.random()
        if what < 0.1:
            return {key: x for key, x in value.items() if key != name}
        if what < 0.2:
            return {**value, name + "x": value[name]}
        return {**value, name: _changed(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [*value[:place], _changed(value[place], chance), *value[place + 1 :]]
    return chance.choice(NASTY)


def _literal(content: bytes, chance: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if byte in b":,["]
    place = chance.choice(places) + 1
    ends = [at for at in range(place, len(content)) if content[at] in b",]}\n"]
    return content[:place] + chance.choice(NOT_JSON) + content[ends[0] if ends else place :]


def _header(content: bytes, chance: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(_changed(json.loads(content[8 : 8 + size]), chance)).encode()
    size = chance.choice((len(header), len(header), 2**63, 0, len(header) + 1))
    return (
        size.to_bytes(8, "little") + header + content[8 + int.from_bytes(content[:8], "little") :]
    )


@contextlib.contextmanager
def limited(seconds: float = 5.0):
    """Fails if what is inside takes longer."""

    def stop(*_):
        raise AssertionError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
