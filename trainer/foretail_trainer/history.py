"""What a fit learned from, kept beside its report for later refits: sessions as types, folds, networks; no text.

`history.npz` holds each distinct session once and, for every session, which it was and when it began. Types stand in
it by type_id, so that a refit may number them otherwise. Networks are .npz files too; nothing here is ever pickled.
"""

from __future__ import annotations

import contextlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foretail.errors import ConfigError
from foretail.schema import FIRST
from foretail_trainer import weights as networks
from foretail_trainer.sequences import Sessions, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail_trainer.learn import Learned
    from foretail_trainer.network import Weights

NAME = "history.npz"
NETWORK = "network.npz"
SCHEMA = 1
EVENTS_MAX = 20_000_000
"""Events kept; beyond it the oldest sessions give way."""


@dataclass(frozen=True, slots=True)
class History:
    """All that a refit needs of the fits before it.

    Attributes:
        digest: of the bundle they made.
        types: type_id of each model id from FIRST on.
        sessions: with the time of each unit's beginning as the time of all its events but a session's last.
        share: int64 `[u, folds]`: how much of each unit's weight lies in each fold.
        network: that was shipped, in float; `folds`: those of the cross-fit, None where one is missing.
        lines, untyped: of the logs; `text_digest` of them.
        rate, per_week: the budget that was asked for; rate 0 = by the week.
        hosts: the logs came from.
    """

    digest: str
    types: tuple[str, ...]
    sessions: Sessions
    share: NDArray[np.int64]
    network: Weights
    folds: tuple[Weights | None, ...]
    lines: int
    untyped: int
    text_digest: str
    rate: float
    per_week: float
    hosts: int


def of(learned: Learned) -> History | None:
    """What a fit leaves for the next one; None without a model."""
    if learned.bundle is None or learned.sessions is None or learned.fitted is None or learned.share is None:
        return None
    options = learned.options
    return History(
        digest=learned.bundle.digest,
        types=tuple(pattern.type_id for pattern in learned.patterns),
        sessions=learned.sessions,
        share=learned.share,
        network=learned.fitted.weights,
        folds=tuple(learned.folds.get(fold) for fold in range(learned.share.shape[1])),
        lines=learned.lines,
        untyped=learned.untyped,
        text_digest=learned.digest,
        rate=options.rate or 0.0,
        per_week=options.per_week,
        hosts=learned.hosts,
    )


def beside(bundle: str) -> Path:
    """`DIR-report` beside the bundle `DIR`: what must not go with it."""
    path = Path(bundle)
    return path.with_name(path.resolve().name + "-report")


def write(folder: Path, kept: History) -> None:
    """Put a history beside the report.

    Raises:
        ConfigError: the folder cannot be written.
    """
    sessions, share = _recent(kept.sessions, kept.share)
    lengths, which, events, rests = _distinct(sessions)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        schema=np.array(SCHEMA),
        text=np.array([kept.digest, kept.text_digest]),
        types=np.array(kept.types, "U16"),
        lengths=lengths,
        which=which,
        events=events,
        rests=np.packbits(rests),
        weight=sessions.weight,
        censored=sessions.censored,
        times=sessions.times[sessions.units] if len(sessions.times) else sessions.times,
        last=sessions.times[sessions.stops - 1] if len(sessions.times) else sessions.times,
        keys=np.frombuffer(b"".join(sessions.keys), np.uint8),
        key_lengths=np.array([len(key) for key in sessions.keys], np.int64),
        share=share,
        seconds=np.array([sessions.idle_s, sessions.rest_s, sessions.span_s]),
        numbers=np.array([kept.lines, kept.untyped, kept.hosts, sessions.endless]),
        budget=np.array([kept.rate, kept.per_week]),
    )
    try:
        (folder / NAME).write_bytes(content.getvalue())
        (folder / NETWORK).write_bytes(networks.write(kept.network))
        for fold, network in enumerate(kept.folds):
            if network is not None:
                _fold(folder, fold).write_bytes(networks.write(network))
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}") from error


def read(folder: Path, bundle: Bundle) -> History:
    """The history of a bundle.

    Raises:
        ConfigError: there is none in the folder, it is damaged, or it is that of another bundle.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            if int(found["schema"]) > SCHEMA:
                raise ConfigError(f"{path} was written by a newer foretail; update this one")
            kept = _decoded({name: found[name] for name in found.files}, folder)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing, what {bundle.path} learned from: keep its report folder beside it, or fit anew on old "
            "and new logs with --base alone"
        ) from None
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} cannot be read ({error}): fit anew on old and new logs with --base alone") from None
    if kept.digest != bundle.digest:
        raise ConfigError(f"{path} is not of {bundle.label}: name the bundle that lies beside it")
    return kept


def _decoded(found: dict[str, NDArray[np.generic]], folder: Path) -> History:
    lengths, which = found["lengths"].astype(np.int64), found["which"].astype(np.int64)
    lines, untyped, hosts, endless = found["numbers"].astype(np.int64).tolist()
    idle_s, rest_s, span_s = found["seconds"].astype(np.float64).tolist()
    rate, per_week = found["budget"].astype(np.float64).tolist()
    starts = np.cumsum(lengths) - lengths
    taken = lengths[which]
    first = np.cumsum(taken) - taken
    at = np.repeat(starts[which] - first, taken) + np.arange(int(taken.sum()))
    rests = np.unpackbits(found["rests"].astype(np.uint8), count=int(lengths.sum())).astype(np.bool_)
    bare = Sessions(
        ids=np.zeros(0, np.int32),
        starts=np.zeros(0, np.int64),
        weight=found["weight"].astype(np.int64),
        censored=found["censored"].astype(np.bool_),
        rests=rests[at],
        times=np.zeros(0),
        keys=_keys(found["keys"].astype(np.uint8).tobytes(), found["key_lengths"].astype(np.int64)),
        units=np.zeros(0, np.int64),
        endless=bool(endless),
        idle_s=idle_s,
        rest_s=rest_s,
        span_s=span_s,
    )
    sessions = spread(bare, found["events"].astype(np.int32)[at], taken)
    times = found["times"].astype(np.float64)
    if len(times):
        clock = np.repeat(times, sessions.unit_stops - sessions.units)
        clock[sessions.stops - 1] = found["last"].astype(np.float64)
        sessions = spread(sessions, sessions.ids, taken, times=clock)
    share = found["share"].astype(np.int64)
    if len(share) != len(sessions.units) or {len(sessions.weight), len(sessions.keys) or len(which)} != {len(which)}:
        raise ValueError("its columns are of different lengths")
    digest, text_digest = found["text"].astype(str).tolist()
    folds: list[Weights | None] = []
    for fold in range(share.shape[1]):
        folds.append(None)
        with contextlib.suppress(OSError):
            folds[fold] = networks.read(_fold(folder, fold).read_bytes())
    types = tuple(found["types"].astype(str).tolist())
    network = networks.read((folder / NETWORK).read_bytes())
    if network.shape.vocabulary != FIRST + len(types) or int(sessions.ids.max(initial=0)) >= FIRST + len(types):
        raise ValueError("its network, types and sessions do not go together")
    return History(
        digest, types, sessions, share, network, tuple(folds), lines, untyped, text_digest, rate, per_week, hosts
    )


def _distinct(
    sessions: Sessions,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    """Lengths of the distinct sessions, which of them each session is, and their events and rests."""
    table: dict[bytes, int] = {}
    which = np.zeros(len(sessions), np.int32)
    chosen: list[int] = []
    marked = sessions.ids.astype(np.int32) * 2 + sessions.rests
    for number, (start, stop) in enumerate(zip(sessions.starts.tolist(), sessions.stops.tolist(), strict=True)):
        row = table.setdefault(marked[start:stop].tobytes(), len(table))
        which[number] = row
        if row == len(chosen):
            chosen.append(number)
    kept = np.zeros(len(sessions), np.bool_)
    kept[chosen] = True
    lengths = (sessions.stops - sessions.starts)[kept]
    events = np.repeat(kept, sessions.stops - sessions.starts)
    return lengths, which, sessions.ids[events], sessions.rests[events]


def _keys(joined: bytes, lengths: NDArray[np.int64]) -> list[bytes]:
    stops = np.cumsum(lengths).tolist()
    return [joined[stop - length : stop] for stop, length in zip(stops, lengths.tolist(), strict=True)]


def _recent(sessions: Sessions, share: NDArray[np.int64]) -> tuple[Sessions, NDArray[np.int64]]:
    """The newest units, EVENTS_MAX events at most."""
    if len(sessions.ids) <= EVENTS_MAX:
        return sessions, share
    lengths = sessions.unit_stops - sessions.units
    when = sessions.times[sessions.units] if len(sessions.times) else np.arange(len(lengths))
    newest = np.argsort(-when, kind="stable")
    gone = np.zeros(len(lengths), np.bool_)
    gone[newest[np.cumsum(lengths[newest]) > EVENTS_MAX]] = True
    return sessions.less(gone), share[~gone]


def _fold(folder: Path, fold: int) -> Path:
    return folder / f"network.fold{fold}.npz"
