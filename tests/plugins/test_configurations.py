"""The files in plugins/: they parse, agree with each other and with the shippers' contracts."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from foretail import cli, config

PLUGINS = Path(__file__).parents[2] / "plugins"
AGENT_FILES = sorted(PLUGINS.glob("*/agent-*.toml"))


def classic(path):
    """Fluent Bit's classic format: [(section, {key in lower case: value})]."""
    sections = []
    for line in path.read_text().splitlines():
        if re.fullmatch(r"\[[A-Z]+\]", line):
            sections.append((line[1:-1].lower(), {}))
        elif line and not line.startswith("#"):
            key, value = re.fullmatch(r"    (\S+) +(\S.*)", line).groups()
            assert key.lower() not in sections[-1][1]
            sections[-1][1][key.lower()] = value
    return sections


def plain(value):
    """YAML's value as the classic format writes it."""
    return {True: "true", False: "false"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def flat(path):
    """A YAML file of Fluent Bit in the form of classic()."""
    content = yaml.safe_load(path.read_text())
    sections = [("service", content["service"])] + [("parser", each) for each in content.get("parsers", [])]
    for kind in ("inputs", "outputs"):
        sections += [(kind[:-1], each) for each in content["pipeline"][kind]]
    return [(kind, {key.lower(): plain(value) for key, value in each.items()}) for kind, each in sections]


def alike(sections):
    """Sections in any order, without what one format says and the other implies."""
    implied = {"parsers_file"}
    kept = [(kind, {k: v.lower() for k, v in keys.items() if k not in implied}) for kind, keys in sections]
    return sorted(kept, key=repr)


@pytest.mark.parametrize("name", ["tail", "forward", "exec"])
def test_classic_and_yaml_of_fluent_bit_say_the_same(name):
    """Each way has both files, with the same sections and keys."""
    old = classic(PLUGINS / f"fluent-bit/{name}.conf")
    if any("parsers_file" in keys for _, keys in old):
        old += classic(PLUGINS / "fluent-bit/parsers.conf")
    new = flat(PLUGINS / f"fluent-bit/{name}.yaml")
    for sections in (old, new):
        for _, keys in sections:
            for key in ("unix_perm", "skip_long_lines"):
                keys.pop(key, None)  # octal and On/Off are written otherwise in YAML
    assert alike(old) == alike(new)


@pytest.mark.parametrize("name", ["file", "http", "exec"])
def test_toml_and_yaml_of_vector_say_the_same(name):
    """Each way has both files, with the same content."""
    new = yaml.safe_load((PLUGINS / f"vector/{name}.yaml").read_text())
    old = tomllib.loads((PLUGINS / f"vector/{name}.toml").read_text())
    assert old == new


def test_fluent_bits_exec_plugin_is_set_as_it_must_be():
    """Threaded and oneshot, a buffer above the agent's longest record, a JSON parser that exists."""
    ((_, keys),) = [each for each in classic(PLUGINS / "fluent-bit/exec.conf") if each[1].get("name") == "exec"]
    assert (keys["threaded"], keys["oneshot"], keys["buf_size"]) == ("true", "true", "1M")
    assert config.Limits().record_bytes_max < 1 << 20
    assert classic(PLUGINS / "fluent-bit/parsers.conf") == [("parser", {"name": keys["parser"], "format": "json"})]


def test_fluent_bit_asks_for_acknowledgements():
    """Without the option it sends no chunk id; without a retry limit it gives up."""
    ((_, keys),) = [each for each in classic(PLUGINS / "fluent-bit/forward.conf") if "require_ack_response" in each[1]]
    assert (keys["require_ack_response"], keys["retry_limit"]) == ("true", "no_limits")


def test_vectors_exec_source_leaves_stderr_alone():
    """By default diagnostics would become events."""
    source = yaml.safe_load((PLUGINS / "vector/exec.yaml").read_text())["sources"]["foretail"]
    assert source["include_stderr"] is False
    assert (source["mode"], source["decoding"]) == ("streaming", {"codec": "json"})


@pytest.mark.parametrize("path", AGENT_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_agents_side_is_a_configuration(path):
    """agent-*.toml is accepted as it is, and at the end of the packaged file, where the READMEs put it."""
    assert config.load(path).stream[0].name in {"nginx", "syslog"}
    packaged = (PLUGINS.parent / "packaging/systemd/agent.toml").read_bytes()
    assert config.parse(packaged + path.read_bytes(), path.name) == config.load(path)


def test_both_sides_of_a_socket_have_one_path():
    """What one side connects to is what the other listens at."""
    agent = config.load(PLUGINS / "fluent-bit/agent-forward.toml")
    paths = [keys["unix_path"] for _, keys in classic(PLUGINS / "fluent-bit/forward.conf") if "unix_path" in keys]
    assert [f"unix:{path}" for path in paths] == [agent.source[0].address, agent.sink[0].address]
    vector = yaml.safe_load((PLUGINS / "vector/http.yaml").read_text())["sources"]["foretail"]
    url = config.load(PLUGINS / "vector/agent-http.toml").sink[0].url
    assert url == f"http://{vector['address']}{vector['path']}"


def test_every_readme_is_one_page_and_names_every_file():
    """What flows where, how to see it work, limits."""
    for readme in PLUGINS.glob("*/README.md"):
        text = readme.read_text()
        assert len(text.splitlines()) <= 100
        assert [part for part in ("## See it work", "## Limits") if part not in text] == []
        files = {path.name for path in readme.parent.iterdir()} - {"README.md", "parsers.conf"}
        assert [name for name in files if f"`{name}`" not in text] == []


def commands():
    """Every foretail command line in plugins/, as words."""
    found = []
    for path in sorted(PLUGINS.glob("*/*")):
        text = re.sub(r"command = \[(.*)\]", lambda m: " ".join(re.findall(r'"([^"]*)"', m[1])), path.read_text())
        text = re.sub(
            r"command:\n((?:      - .*\n)+)", lambda m: m[1].replace("      - ", " ").replace("\n", "") + "\n", text
        )
        for line in text.splitlines():
            match = re.search(r"\bforetail ((?:(?:exec|pipe|backtest) --bundle|(?:run|check) -c) [^\"`>#]*)", line)
            if match:
                found.append((f"{path.parent.name}/{path.name}", match[1].strip()))
    return found


@pytest.mark.parametrize(("file", "command"), commands())
def test_every_command_line_is_one_of_foretail(file, command):
    """What the files and READMEs tell to type is understood."""
    words = [word.strip("'") for word in command.split()]
    assert cli.parser().parse_args(words).command.partition(":")[0] in ("service", "operate", "rest"), file


def test_command_lines_are_found():
    """In every plugin, so that the test above means something."""
    assert {file.partition("/")[0] for file, _ in commands()} == {"fluent-bit", "vector", "rsyslog", "syslog-ng"}


def test_the_manual_page_has_every_command():
    """`man foretail` names what `foretail --help` names."""
    page = (PLUGINS.parent / "packaging/deb/foretail.1").read_text()
    found = re.findall(r"^    (\w+) +[A-Z]", cli.parser().format_help(), re.MULTILINE)
    assert {"run", "label", "bundle"} <= set(found)
    assert [name for name in found if not re.search(rf"\b{name}\b", page)] == []


CONTAINER = Path(__file__).parents[2] / "packaging/container"


def test_the_sidecar_has_what_its_agent_asks_for():
    """Every path in agent.toml is a mount of the pod; the read-only ones are read-only."""
    agent = config.load(CONTAINER / "agent.toml")
    pod = yaml.safe_load((CONTAINER / "sidecar.yaml").read_text())["spec"]
    (sidecar,) = [each for each in pod["containers"] if each["name"] == "foretail"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in sidecar["volumeMounts"]}
    assert mounts[str(Path(agent.stream[0].bundle).parent)]
    assert not mounts[agent.agent.state_dir]
    assert not mounts[str(Path(agent.agent.status_socket).parent)]
    assert any(path.startswith("/var/log/pods/") and read_only for path, read_only in mounts.items())
    assert {mount["name"] for mount in sidecar["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
