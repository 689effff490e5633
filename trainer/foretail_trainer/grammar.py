"""What the demo's storage service says, and in which order: its messages, and a grammar of steps for each request."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator


class Message(NamedTuple):
    """What the service writes at one step; `{...}` are filled in for each line."""

    level: str
    component: str
    text: str
    delay_s: float = 0.25


MESSAGES = {
    # uploads
    "put.accepted": Message("INFO", "gateway", "{req} PUT /{bucket}/{object} accepted from {ip}, {bytes} bytes"),
    "auth.granted": Message("INFO", "auth", "{req} access granted to tenant {tenant} by policy {policy}", 0.1),
    "quota.near": Message("WARN", "auth", "{req} tenant {tenant} has used {percent}% of its quota", 0.1),
    "placement.chosen": Message("INFO", "placement", "{req} placement chose nodes {node}, {node2} and {node3}", 0.15),
    "chunk.stored": Message("INFO", "chunkstore", "{req} stored chunk {chunk} on {node} in {ms} ms", 0.4),
    "write.timeout": Message(
        "WARN", "chunkstore", "{req} write to {node} timed out after {ms} ms, trying the next node", 0.9
    ),
    "checksum.verified": Message("INFO", "chunkstore", "{req} checksum {hash} verified"),
    "metadata.committed": Message("INFO", "metadata", "{req} committed metadata version {version} on shard {shard}"),
    "put.completed": Message("INFO", "gateway", "{req} completed with 201 after {ms} ms"),
    # downloads
    "get.accepted": Message("INFO", "gateway", "{req} GET /{bucket}/{object} accepted from {ip}"),
    "cache.hit": Message("DEBUG", "cache", "{req} found /{bucket}/{object} in cache tier {tier}", 0.05),
    "cache.miss": Message("DEBUG", "cache", "{req} /{bucket}/{object} is not cached", 0.05),
    "chunk.read": Message("INFO", "chunkstore", "{req} read chunk {chunk} from {node} in {ms} ms", 0.3),
    "read.timeout": Message("WARN", "chunkstore", "{req} no answer from {node} within {ms} ms, asking a replica", 0.9),
    "body.sent": Message("INFO", "gateway", "{req} sent {bytes} bytes to {ip}", 0.4),
    "client.gone": Message("ERROR", "gateway", "{req} client {ip} closed the connection after {bytes} bytes", 0.6),
    "get.completed": Message("INFO", "gateway", "{req} completed with 200 after {ms} ms", 0.1),
    # deletions
    "delete.accepted": Message("INFO", "gateway", "{req} DELETE /{bucket}/{object} accepted from {ip}"),
    "tombstone.written": Message("INFO", "metadata", "{req} wrote tombstone for version {version}"),
    "chunk.freed": Message("INFO", "chunkstore", "{req} freed chunk {chunk} on {node}, {bytes} bytes", 0.2),
    "delete.completed": Message("INFO", "gateway", "{req} completed with 204 after {ms} ms"),
    # replication
    "replica.scheduled": Message("INFO", "replicator", "{req} replication of /{bucket}/{object} to {node} scheduled"),
    "lease.busy": Message("INFO", "replicator", "{req} lease on /{bucket}/{object} is held by {node}, waiting", 0.8),
    "lease.acquired": Message("INFO", "replicator", "{req} acquired lease {lease} for {ms} ms"),
    "chunk.copied": Message("INFO", "replicator", "{req} copied chunk {chunk} from {node} to {node2}", 0.5),
    "lease.released": Message("INFO", "replicator", "{req} released lease {lease}", 0.1),
    "replica.completed": Message("INFO", "replicator", "{req} replication finished, {bytes} bytes moved"),
    # scrubs
    "scrub.started": Message("INFO", "scrubber", "{req} scrub of volume {volume} started on {node}"),
    "group.scanned": Message("INFO", "scrubber", "{req} block group {shard} scanned, {bytes} bytes, {ms} ms", 0.5),
    "group.repaired": Message("WARN", "scrubber", "{req} block {hash} did not match, repaired from {node}", 0.6),
    "scrub.finished": Message("INFO", "scrubber", "{req} scrub of volume {volume} finished after {ms} ms"),
    # chatter, of no request
    "heartbeat": Message("DEBUG", "cluster", "heartbeat from {node}: load {load}, {percent}% of disk used"),
    "cache.stats": Message("INFO", "cache", "cache holds {bytes} bytes in {count} entries, hit ratio {load}"),
    "gc.started": Message("INFO", "gc", "collection of volume {volume} started", 0.3),
    "gc.finished": Message("INFO", "gc", "collection of volume {volume} reclaimed {bytes} bytes in {ms} ms", 1.0),
    "journal.flushed": Message("DEBUG", "metadata", "journal flushed up to record {count} in {ms} ms"),
    "service.started": Message("INFO", "main", "storage service 4.2.1 started with {count} volumes"),
}
"""Every message of the healthy service, by step."""

UNSEEN = {
    "disk.failing": Message("ERROR", "chunkstore", "{req} device under {node} reports {count} reallocated sectors"),
    "index.corrupt": Message("ERROR", "metadata", "{req} index page {count} of shard {shard} fails its own checksum"),
    "split.brain": Message("ERROR", "cluster", "two leaders claim term {count}: {node} and {node2}"),
}
"""Messages that only a fault writes."""

RETRIES_NORMAL_MAX = 1
"""Failed attempts in a row that a healthy request survives; a fault of repeated retries shows in the next one."""
DELAY_S_MAX = 2.4
"""Longest pause inside a healthy request."""


def _chunks(rng: random.Random, step: str) -> list[str]:
    """One to three chunks, small objects being common."""
    return [step] * rng.choices((1, 2, 3), (0.6, 0.28, 0.12))[0]


def _upload(rng: random.Random, turn: float) -> Iterator[str]:
    yield from ("put.accepted", "auth.granted")
    if turn < 0.05:
        yield "quota.near"
    yield "placement.chosen"
    if 0.05 <= turn < 0.13:
        yield "write.timeout"
    yield from _chunks(rng, "chunk.stored")
    yield from ("checksum.verified", "metadata.committed", "put.completed")


def _download(rng: random.Random, turn: float) -> Iterator[str]:
    yield from ("get.accepted", "auth.granted")
    if turn < 0.65:
        yield "cache.hit"
    else:
        yield "cache.miss"
        if turn > 0.94:
            yield "read.timeout"
        yield from _chunks(rng, "chunk.read")
    if turn < 0.03:
        yield "client.gone"
    else:
        yield from ("body.sent", "get.completed")


def _delete(rng: random.Random, _turn: float) -> Iterator[str]:
    yield from ("delete.accepted", "auth.granted", "tombstone.written")
    yield from _chunks(rng, "chunk.freed")
    yield from ("metadata.committed", "delete.completed")


def _replicate(rng: random.Random, turn: float) -> Iterator[str]:
    yield "replica.scheduled"
    if turn < 0.2:
        yield "lease.busy"
    yield "lease.acquired"
    yield from _chunks(rng, "chunk.copied")
    yield from ("checksum.verified", "lease.released", "replica.completed")


def _scrub(rng: random.Random, turn: float) -> Iterator[str]:
    yield "scrub.started"
    yield from ("group.scanned", "group.scanned")
    if turn < 0.25:
        yield "group.repaired"
    yield from _chunks(rng, "group.scanned")
    yield "scrub.finished"


GRAMMARS: dict[str, tuple[float, Callable[[random.Random, float], Iterator[str]]]] = {
    "upload": (0.28, _upload),
    "download": (0.41, _download),
    "delete": (0.13, _delete),
    "replicate": (0.10, _replicate),
    "scrub": (0.08, _scrub),
}
"""Each kind of request: its share, and the steps it takes, given a number from 0 to 1 that decides its unusual turn.

No branch is a toss-up: a model that rounds its weights to eight bits could not agree with itself on which side comes
next. No request has two unusual turns at once: such a pair is as rare in an hour of history as a fault.
"""

CHATTER = (
    (0.70, ("heartbeat",)),
    (0.12, ("cache.stats",)),
    (0.08, ("gc.started", "gc.finished")),
    (0.10, ("journal.flushed",)),
)
CHATTER_SHARE = 0.1
