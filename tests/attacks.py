"""A repository of signed bundles, a web server that can lie, and all the ways to attack a host that pulls from it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
import socket
import tarfile
import threading
import time
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec

from foretail import bundle as bundles
from foretail import release
from foretail.cli import main as foretail
from foretail_trainer import publish
from foretail_trainer.cli import main as train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUNDLE = Path(__file__).resolve().parent / "golden" / "bundle"
NAME = "golden"
TIMEOUT_S = 0.1
"""Between two bytes; a whole pull may take ten times that in an attack on time."""


class Web:
    """A web server on loopback for a folder; `lies` maps the end of a path to what is sent instead.

    Asked as a proxy it answers for every host, and keeps what it was `asked`.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.lies: dict[str, Callable[[SimpleHTTPRequestHandler], None]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self, directory=str(folder)))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, web: Web, *args: object, **options: object) -> None:
        self._web = web
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        """A lie, or the file."""
        if self.path.startswith("http://"):
            self._web.asked.append(self.path)
            self.path = urlsplit(self.path).path
        for end, lie in self._web.lies.items():
            if self.path.endswith(end):
                with contextlib.suppress(OSError):
                    lie(self)
                return
        with contextlib.suppress(OSError):
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Host:
    """A repository with its keys, and a host that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo, self.keys, self.state = (folder, folder / "repo", folder / "keys", folder / "state")
        self.shelf, self.config = self.state / "bundles" / NAME, folder / "agent.toml"

    def begin(self) -> None:
        """Version 1 is published, trusted, pulled and current; version 2 waits in the repository."""
        self.train("keys", "new")
        assert self.configure() == self.config
        assert foretail(["bundle", "trust", str(self.repo / "metadata" / "1.root.json"), "-c", str(self.config)]) == 0
        self.train("publish", self.bundle(1).path)
        assert self.take("import", str(self.repo)) == 0
        shutil.copytree(self.repo, self.folder / "repo-1")
        self.train("publish", self.bundle(2).path)

    def configure(self, *, timeout_s: float = 30.0, extra: str = "") -> Path:
        """Write the agent's configuration."""
        self.config.write_text(
            f'[agent]\nstate_dir = "{self.state}"\nstatus_socket = "{self.folder / "s.sock"}"\nobserve_h = 0\n'
            f'observe_file = "{self.folder / "observe"}"\n'
            '[[stream]]\nname = "storage"\nstart = "head"\nemit = "lines"\n'
            f'include = ["{self.folder / "storage.log"}"]\n'
            f'bundle = "{self.shelf / "current"}"\n[[sink]]\ntype = "file"\npath = "{self.folder / "out.jsonl"}"\n'
            f'[update]\ntimeout_s = {timeout_s}\ntrust_dir = "{self.folder / "trust"}"\n{extra}'
        )
        return self.config

    def train(self, *arguments: object) -> None:
        """A command of the publisher, which succeeds."""
        assert train([*map(str, arguments), "--repo", str(self.repo), "--keys", str(self.keys)]) == 0

    def take(self, command: str, *arguments: str) -> int:
        """A command of the host."""
        return foretail(["bundle", command, "-c", str(self.config), *arguments])

    def bundle(self, version: int, name: str = NAME) -> bundles.Bundle:
        """The golden bundle as another version."""
        old = bundles.read(BUNDLE)
        manifest = msgspec.structs.replace(old.manifest, version=version, name=name)
        return bundles.write(self.folder / f"{name}-{version}", manifest, old.files)

    def changed(self, change: Callable[[dict[str, bytes]], None] = lambda _: None, **fields: object) -> None:
        """Sign version 3 with other files or other fields of its manifest, as somebody with all keys could."""
        old = bundles.read(BUNDLE)
        files = dict(old.files)
        change(files)
        manifest = msgspec.structs.replace(old.manifest, version=3, **fields)
        entries = {n: bundles.FileEntry(len(d), hashlib.sha256(d).hexdigest()) for n, d in sorted(files.items())}
        raw = bundles._sealed(msgspec.structs.replace(manifest, files=entries))
        self.signed(tar({**files, bundles.MANIFEST: raw}), hashlib.sha256(raw).hexdigest())

    def signed(self, raw: bytes, digest: str = "d" * 64) -> None:
        """Sign any bytes as the tar of version 3."""
        repository = publish.Repository(self.repo, [self.keys]).load()
        target = release.tar(NAME, 3, digest)
        made = release.Release(NAME, "stable", 3, digest, target, hashlib.sha256(raw).hexdigest(), len(raw))
        repository._put(target, raw)
        repository._put(release.latest(NAME, "stable"), msgspec.json.encode(made))
        repository.commit()

    def newest(self, role: str) -> list[Path]:
        """The metadata files of a role, newest first."""
        return sorted((self.repo / "metadata").glob(f"*.{role}.json"), reverse=True)


def tar(files: dict[str, bytes], *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar of these files and further members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info, data in more:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def whole() -> dict[str, bytes]:
    """All files of the golden bundle."""
    bundle = bundles.read(BUNDLE)
    return {**bundle.files, bundles.MANIFEST: bundle.raw}


def member(name: str, data: bytes = b"{}", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member that no bundle has."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


# -- attacks: each gets a host that runs version 1 and the web server of its repository ------------------------------


def _other_bytes(host: Host, _: Web) -> None:
    for path in host.repo.rglob("*.2-*.tar"):
        path.write_bytes(tar(whole()))


def _wrong_key(host: Host, _: Web) -> None:
    evil = Host(host.folder / "evil")
    evil.folder.mkdir()
    evil.train("keys", "new")
    evil.train("publish", evil.bundle(9).path)
    shutil.rmtree(host.repo)
    evil.repo.rename(host.repo)


def _stolen_timestamp(host: Host, _: Web) -> None:
    next(host.keys.glob("targets-*")).unlink()
    evil = publish.Repository(host.repo, [host.keys]).load()
    signer = evil._made(host.folder / "evil-keys", "targets")
    evil.root.signed.add_key(signer.public_key, "targets")
    evil.commit()


def _rollback(host: Host, _: Web) -> None:
    assert host.take("import", str(host.repo)) == 0
    shutil.rmtree(host.repo)
    (host.folder / "repo-1").rename(host.repo)


def _rollback_without_cache(host: Host, web: Web) -> None:
    _rollback(host, web)
    for cache in (host.folder / "trust").glob("metadata-*"):
        shutil.rmtree(cache)


def _older_bundle(host: Host, _: Web) -> None:
    assert host.take("import", str(host.repo)) == 0
    repository = publish.Repository(host.repo, [host.keys]).load()
    old = publish.Repository(host.folder / "repo-1", [host.keys]).load()
    repository._put(release.latest(NAME, "stable"), old.content(release.latest(NAME, "stable")))
    repository.commit()


def _freeze(host: Host, _: Web) -> None:
    life = publish.LIFE["timestamp"]
    publish.LIFE["timestamp"] = timedelta(seconds=-1)
    try:
        host.train("publish", "--refresh")
    finally:
        publish.LIFE["timestamp"] = life


def _mix_and_match(host: Host, _: Web) -> None:
    newest, older = host.newest("snapshot")[:2]
    newest.write_bytes(older.read_bytes())


def _endless_timestamp(_: Host, web: Web) -> None:
    web.lies["timestamp.json"] = _endless


def _endless_tar(_: Host, web: Web) -> None:
    web.lies[".tar"] = _endless


def _slow_timestamp(host: Host, web: Web) -> None:
    host.configure(timeout_s=TIMEOUT_S)
    web.lies["timestamp.json"] = _slow


def _slow_tar(host: Host, web: Web) -> None:
    host.configure(timeout_s=TIMEOUT_S)
    web.lies[".tar"] = _slow


def _silent(host: Host, web: Web) -> None:
    host.configure(timeout_s=TIMEOUT_S)
    web.lies["timestamp.json"] = lambda _: time.sleep(20 * TIMEOUT_S)


def _swapped_file(host: Host, _: Web) -> None:
    host.signed(tar(whole() | {"counts.npy": bundles.read(BUNDLE).files["counts.npy"][::-1]}))


def _traversal(host: Host, _: Web) -> None:
    host.signed(tar(whole(), member("../../evil.json")))


def _absolute(host: Host, _: Web) -> None:
    host.signed(tar(whole(), member(f"{host.folder}/evil.json")))


def _link(host: Host, _: Web) -> None:
    host.signed(tar(whole(), member("evil.json", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")))


def _duplicate(host: Host, _: Web) -> None:
    host.signed(tar(whole(), member("patterns.json")))


def _huge_member(host: Host, _: Web) -> None:
    info = tarfile.TarInfo("series.json")
    info.size = 1 << 40
    host.signed(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def _huge_target(host: Host, _: Web) -> None:
    repository = publish.Repository(host.repo, [host.keys]).load()
    for path, target in repository.targets.signed.targets.items():
        if path.endswith(".tar"):
            target.length = 1 << 40
    repository.commit()


def _other_name(host: Host, _: Web) -> None:
    host.changed(name="other")


def _newer_schema(host: Host, _: Web) -> None:
    host.changed(schema=99)


def _newer_agent(host: Host, _: Web) -> None:
    host.changed(agent_min="99.0.0")


def _forbidden_op(host: Host, _: Web) -> None:
    def change(files: dict[str, bytes]) -> None:
        for name in ("sequence.b1.tflite", "sequence.b64.tflite"):
            files[name] = forbidden(files[name])

    host.changed(change)


def _wrong_shape(host: Host, _: Web) -> None:
    sequence = bundles.read(BUNDLE).manifest.sequence
    host.changed(sequence=msgspec.structs.replace(sequence, window=sequence.window + 1))


def _truncated_model(host: Host, _: Web) -> None:
    host.changed(lambda files: files.update({"sequence.b1.tflite": files["sequence.b1.tflite"][:2000]}))


def _regex(host: Host, _: Web) -> None:
    def change(files: dict[str, bytes]) -> None:
        patterns = msgspec.json.decode(files["patterns.json"])
        patterns["patterns"][0]["regex"] = "(?:[a-z]+)+!"
        files["patterns.json"] = msgspec.json.encode(patterns)

    host.changed(change)


def _golden(host: Host, _: Web) -> None:
    host.changed(lambda files: files.update({"golden.jsonl": files["golden.jsonl"].replace(b'"nats":', b'"nats":9')}))


def _pickle(host: Host, _: Web) -> None:
    host.changed(lambda files: files.update({"counts.npy": b"\x80\x04cos\nsystem\n(S'true'\ntR."}))


class Attack(NamedTuple):
    """What is done, and a part of the one sentence with which it is refused."""

    name: str
    arrange: Callable[[Host, Web], None]
    sentence: str


ATTACKS = (
    Attack("arbitrary bundle", _other_bytes, "is refused: Expected length|is refused: Observed hash"),
    Attack("wrong key", _wrong_key, "signed by 0/1 keys"),
    Attack("stolen snapshot and timestamp keys", _stolen_timestamp, "targets was signed by 0/1 keys"),
    Attack("rollback", _rollback, "New timestamp version"),
    Attack("rollback, local metadata lost", _rollback_without_cache, "this host has seen"),
    Attack("older bundle, freshly signed", _older_bundle, "an older one is taken with --force only"),
    Attack("freeze", _freeze, "timestamp.json is expired"),
    Attack("mix-and-match", _mix_and_match, "is refused: Expected length|is refused: Observed hash"),
    Attack("endless metadata", _endless_timestamp, "more than was announced"),
    Attack("endless bundle", _endless_tar, "more than was announced"),
    Attack("slow metadata", _slow_timestamp, "too slow|timed out"),
    Attack("slow bundle", _slow_tar, "too slow|timed out"),
    Attack("silent server", _silent, "too slow|timed out"),
    Attack("swapped file in the tar", _swapped_file, "counts.npy does not have the hash of its manifest"),
    Attack("path traversal", _traversal, "'../../evil.json', which no bundle has"),
    Attack("absolute path", _absolute, "evil.json', which no bundle has"),
    Attack("link in the tar", _link, "'evil.json' is no plain file"),
    Attack("duplicate name in the tar", _duplicate, "'patterns.json' is no plain file or comes twice"),
    Attack("huge declared member", _huge_member, "bytes, more than"),
    Attack("huge declared bundle", _huge_target, "more than 67108864 are not fetched"),
    Attack("bundle of another name", _other_name, "is for 'other', not for 'golden'"),
    Attack("newer schema", _newer_schema, "has schema 99"),
    Attack("newer agent needed", _newer_agent, "needs agent 99.0.0"),
    Attack("forbidden operator", _forbidden_op, "operators? .*CUSTOM"),
    Attack("wrong shape", _wrong_shape, "the manifest says"),
    Attack("truncated model", _truncated_model, "TFLite file is damaged"),
    Attack("catastrophic regex", _regex, "is refused: a repeat"),
    Attack("wrong golden score", _golden, "golden window"),
    Attack("pickle for an array", _pickle, "is no readable array"),
)


def forbidden(model: bytes) -> bytes:
    """The model with one operator turned into a custom one, TFLite's way to foreign code."""
    from foretail import ops  # noqa: PLC0415

    data = ops._Bytes(model)
    codes = data.follow(data.field(data.follow(0), 1))
    table = data.follow(codes + 4)
    changed = bytearray(model)
    for index, form in ((0, "b"), (3, "i")):
        at = data.field(table, index)
        if at is not None:
            changed[at : at + {"b": 1, "i": 4}[form]] = (32).to_bytes({"b": 1, "i": 4}[form], "little")
    return bytes(changed)


def _endless(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(bytes(1 << 16))


def _slow(handler: SimpleHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" ")
        time.sleep(TIMEOUT_S / 4)


def standing(host: Host) -> tuple[str, str]:
    """Which bundle is current, and the digest of what it holds, read anew."""
    return str((host.shelf / "current").readlink()), bundles.read(host.shelf / "current").digest


@contextlib.contextmanager
def attacked(base: Path, folder: Path) -> Iterator[tuple[Host, Web]]:
    """A copy of a host that was begun in `base`, and its web server."""
    shutil.copytree(base, folder, symlinks=True)
    host = Host(folder)
    host.configure()
    with Web(host.repo) as web:
        yield host, web


def quiet_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
