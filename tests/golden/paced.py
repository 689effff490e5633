"""A made-up web service at a steady pace: the log that the golden volume detector and line classifier judge.

Made anew wherever it is needed, the same everywhere: `random.Random` gives the same numbers on every host.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime

START = 1_767_225_600
PER_MINUTE = 40
FAULTS = {"burst": (15, 17), "slow": (24, 27), "attack": (33, 34), "silence": (40, 44)}
"""Minutes of the judged log."""
MINUTES = 50
ATTACKS = ("' or '1'='1", "'; drop table item; --", "../../../../etc/passwd", "<script>alert(1)</script>")


def request(chance: random.Random, *, attack: bool) -> str:
    """What a client asked for."""
    path = f"/item/{chance.randrange(5000)}?sort={chance.choice(('asc', 'desc'))}&page={chance.randrange(40)}"
    return path + chance.choice(ATTACKS) if attack else path


def log(seed: int, minutes: int, *, faults: bool) -> list[str]:
    """Lines in order; with faults in the minutes of FAULTS."""
    chance, lines = random.Random(seed), []
    for minute in range(minutes):
        on = {name for name, (first, last) in FAULTS.items() if faults and first <= minute < last}
        count = 0 if "silence" in on else PER_MINUTE + chance.randrange(-4, 5)
        rows = [(60 * chance.random(), "answer") for _ in range(count)]
        rows += [(60 * chance.random(), "retry") for _ in range(60 if "burst" in on else chance.randrange(3))]
        for number, (second, what) in enumerate(sorted(rows)):
            at = datetime.fromtimestamp(START + 60 * minute + second, UTC)
            stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z INFO"
            if what == "retry":
                lines.append(f"{stamp} retry of backend {chance.randrange(3)}")
                continue
            asked = request(chance, attack="attack" in on and not number % 8)
            took = int(chance.lognormvariate(3, 0.3) * (12 if "slow" in on else 1))
            lines.append(f"{stamp} answered {asked} in {took} ms")
    return lines


def labelled(seed: int, count: int) -> str:
    """A CSV of messages with labels; one in four is an attack."""
    chance, rows = random.Random(seed), ["text,label"]
    for number in range(count):
        asked = request(chance, attack=not number % 4)
        text = f"answered {asked} in {chance.randrange(200)} ms".replace('"', '""')
        rows.append(f'"{text}",{"attack" if not number % 4 else "normal"}')
    return "\n".join(rows) + "\n"
