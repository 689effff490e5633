"""Labelled JSON login requests: nested fields, several encodings, injections in user, password or note."""

from __future__ import annotations

import json
import random

NAMES = ("anna", "björn", "李雷", "olga", "user%d", "j.o'neil", "marie-claire", "ops")
NOTES = ("café & bär", "a=b;c", '50% off "now"', "O\u2019Reilly", "select a plan", "union station", "script kiddie")
ATTACKS = (
    "' or '1'='1",
    "admin'--",
    '" OR 1=1 #',
    "%27%20or%201%3D1",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    '{"$gt":""}',
    "; cat /etc/passwd",
    "${jndi:ldap://x/a}",
    "\\u0027 or 1=1",
    "UNION SELECT pass FROM users",
    "sleep(5)",
)
DROPPED = ("timestamp", "headers", "source")
"""Fields that say nothing of a request: they are left out (`--drop`)."""


def requests(count: int, seed: int) -> list[tuple[str, bool]]:
    """Requests as JSON texts, and whether each is an attack (three of ten)."""
    rng = random.Random(seed)
    return [_request(rng) for _ in range(count)]


def _word(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789_-.!@", k=length))


def _request(rng: random.Random) -> tuple[str, bool]:
    name = rng.choice(NAMES)
    body = {
        "username": name % rng.randint(1, 999) if "%" in name else name,
        "password": _word(rng, rng.randint(6, 14)),
        "remember": rng.random() < 0.5,
        "meta": {"lang": rng.choice(("de", "en", "zh")), "tz": rng.randint(-11, 12)},
    }
    if rng.random() < 0.1:
        body["note"] = rng.choice(NOTES)
    attack = rng.random() < 0.3
    if attack:
        text = rng.choice(ATTACKS)
        text = _word(rng, rng.randint(1, 6)) + text if rng.random() < 0.5 else text
        body[rng.choice(("username", "password", "note"))] = text + _word(rng, rng.choice((0, 0, 4)))
    record = {
        "timestamp": f"2024-03-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:00Z",
        "method": "POST",
        "path": rng.choice(("/login", "/api/v1/session", "/auth/token")),
        "headers": {"user-agent": rng.choice(("curl/8.0", "okhttp/4.9")), "x-request-id": _word(rng, 16)},
        "source": {"ip": f"10.0.{rng.randint(0, 255)}.{rng.randint(0, 255)}", "port": rng.randint(1024, 65535)},
        "status": rng.choice((200, 200, 401)),
        "body": body,
    }
    return json.dumps(record, ensure_ascii=rng.random() < 0.5), attack
