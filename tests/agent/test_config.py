import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from foretail import config
from foretail.errors import ConfigError

MINIMAL = '[[stream]]\nname = "a"\nbundle = "/b"\ninclude = ["/x"]\n'
SHIPPED = Path(__file__).parents[2] / "packaging/systemd/agent.toml"


def parse(text: str) -> config.Config:
    return config.parse(text.encode(), "agent.toml")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse(text)
    return str(error.value)


def uncommented() -> str:
    """The shipped file with every option in force."""
    return re.sub(r"^# (?=\[\[|\w+ = )", "", SHIPPED.read_text(), flags=re.MULTILINE)


def test_one_stream_is_a_whole_configuration():
    """A file with one stream works: records go to stdout."""
    parsed = parse(MINIMAL)
    assert [sink.name for sink in parsed.sink] == ["stdout"]
    assert parsed.stream[0].emit == "incidents"
    assert parsed.agent.observe_h == 24


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[agnt]", ["unknown key `agnt`", "did you mean `agent`"]),
        ("[agent]\nobserv_h = 1", ["unknown key `observ_h`", "`observe_h`"]),
        ('[agent]\nfsync_s = "a"', ["agent.fsync_s", "expected `float`, got `str`"]),
        ("[agent]\nfsync_s = -1", ["agent.fsync_s", ">= 0"]),
        ('[agent]\nlog_level = "loud"', ["log_level", '"debug", "error", "info", "warning"']),
        ('[[sink]]\ntype = "fil"', ["sink.type", '"stdout", "file", "http", "forward", "tcp", "unix"']),
        ('[[sink]]\ntype = "http"', ["`url` is missing in `sink`"]),
        ('[[sink]]\ntype = "file"\npath = "/x"\nurl = "y"', ["unknown key `url` in `sink`"]),
        ('[[sink]]\ntype = "file"\npath = "/x"\npolicy = "lose"', ["sink.policy", '"block", "drop", "spool"']),
        ('[[sink]]\ntype = "tcp"\naddress = "here"', ["'here' is not host:port"]),
        ('[[sink]]\ntype = "http"\nurl = "ftp://x"', ["sink.url"]),
        ('[[sink]]\ntype = "stdout"\n[[sink]]\ntype = "stdout"', ["two sinks write to stdout"]),
        ('[[sink]]\nname = "s"\ntype = "stdout"\n[[sink]]\nname = "s"\ntype = "file"\npath = "/x"', ["named 's'"]),
        ('[[sink]]\ntype = "stdout"\nretry_max_s = 0.1', ["retry_max_s 0.1 is below"]),
        ('[[source]]\ntype = "forward"\naddress = "a:1"\nstream = "z"', ["'z' is not a [[stream]]; there are a"]),
        ('[[source]]\ntype = "tcp"\naddress = "unix:/x"\nstream = "a"', ['use type = "unix"']),
        ('[agent]\nmetrics = "9477"', ["agent.metrics", "host:port"]),
        (MINIMAL, ["two streams are named 'a'"]),
        ("[[stream]]\nname = 'b'", ["`bundle` is missing"]),
        ("[[stream]]\nname = 'b'\nbundle = 'x'", ["stream 'b' has no include and no [[source]]"]),
        ("[[stream]]\nname = 'b'\nbundle = 'x'\ninclude = ['y']\nmultiline = 'start'", ["multiline_start together"]),
        (
            "[[stream]]\nname = 'b'\nbundle = 'x'\ninclude = ['y']\nmultiline = 'start'\nmultiline_start = '(a+)+b'",
            ["stream 'b'", "multiline_start ((a+)+b) is refused", "a repeat holds a repeat"],
        ),
        ("x = ", ["not valid TOML"]),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(text, said):
    """Every mistake is one sentence that names the file and the key and says what is allowed."""
    sentence = complaint(MINIMAL + text)
    assert sentence.startswith("agent.toml: ")
    assert [part for part in said if part not in sentence] == []
    assert "\n" not in sentence


def test_no_stream_is_an_error():
    """A file without a stream says what to add."""
    assert "`stream` is missing" in complaint("")
    assert "add one with name, include and bundle" in complaint("stream = []")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A missing file and one that is not UTF-8 are one sentence each."""
    with pytest.raises(ConfigError, match=r"cannot read configuration .*missing\.toml: No such file"):
        config.load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="byte 3 is not UTF-8"):
        config.parse(b"x =\xff", "agent.toml")


def test_a_configuration_cannot_be_changed():
    """The records are frozen."""
    with pytest.raises(AttributeError):
        parse(MINIMAL).agent.fsync_s = 1


def test_the_shipped_file_is_all_comments():
    """As shipped, every option has its default and only a stream is missing."""
    assert tomllib.loads(SHIPPED.read_text()) == {"agent": {}, "incidents": {}, "update": {}, "limits": {}}


def test_the_shipped_file_holds_every_option_with_its_default():
    """What stands behind a comment sign is the default, and no option is missing."""
    table = tomllib.loads(uncommented())
    parsed = config.build(table, "agent.toml")
    sections = [(config.Agent, [table["agent"]]), (config.Incidents, [table["incidents"]])]
    sections += [(config.Update, [table["update"]]), (config.Limits, [table["limits"]])]
    sections += [(config.Stream, table["stream"]), (config.Source, table["source"])]
    shared = {"name", "policy", "queue_bytes_max", "spool_bytes_max", "retry_first_s", "retry_max_s"}
    for sink in table["sink"]:
        kind = type(parsed.sink[table["sink"].index(sink)])
        sections.append((kind, [sink | dict.fromkeys(shared)]) if kind is not config.StdoutSink else (kind, [sink]))
    for kind, tables in sections:
        for found in tables:
            assert {field.name for field in msgspec.structs.fields(kind)} == set(found) - {"type"} | (
                {"type"} if kind is config.Source else set()
            )
            for field in msgspec.structs.fields(kind):
                if field.default is not msgspec.NODEFAULT and found[field.name] is not None and field.name != "include":
                    assert (field.name, field.default) == (field.name, _plain(found[field.name]))


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("text", "parts"), [("a:1", ("a", 1)), ("[::1]:24224", ("::1", 24224)), ("127.0.0.1:0", ("127.0.0.1", 0))]
)
def test_addresses_are_host_and_port(text, parts):
    """IPv6 addresses stand in brackets."""
    assert parts == config.host_port(text, "x")
