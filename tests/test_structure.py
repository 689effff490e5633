"""The house: who may import whom, what is packaged, and which module is the only door to a heavy dependency."""

from __future__ import annotations

import ast
import configparser
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"foretail": ROOT / "agent" / "foretail", "foretail_trainer": ROOT / "trainer" / "foretail_trainer"}
AGENT_ALLOWS = {"foretail", "watchdog", "regex", "structlog", "msgspec", "numpy", "ai_edge_litert", "tflite_runtime"}
AGENT_OPTIONAL = {"tuf", "securesystemslib", "prometheus_client", "zstandard"}
DOORS = {
    "watchdog": {"wake"},
    "structlog": {"telemetry"},
    "prometheus_client": {"telemetry"},
    "regex": {"trial"},
    "ai_edge_litert": {"model"},
    "tflite_runtime": {"model"},
    "tuf": {"update", "publish"},
    "securesystemslib": {"update", "publish"},
    "tensorflow": {"network"},
}
TOP_LEVEL = {
    "agent", "trainer", "plugins", "tests", "packaging", "docs", "setup.cfg", "pyproject.toml", "Makefile", "README.md",
    "CHANGELOG.md", "LICENSE", ".ci", ".gitignore",
}  # fmt: skip


def modules(package: str) -> list[Path]:
    return sorted(SOURCES[package].rglob("*.py"))


def imports(path: Path) -> set[str]:
    """First parts of all names imported anywhere in a file, inside functions too; and `import_module("...")`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", modules("foretail"), ids=lambda path: path.stem)
def test_the_agent_imports_neither_the_trainer_nor_anything_heavy(path):
    """A host gets the standard library, the declared dependencies, and optional extras; nothing else."""
    assert imports(path) - set(sys.stdlib_module_names) <= AGENT_ALLOWS | AGENT_OPTIONAL


@pytest.mark.parametrize("package", SOURCES)
def test_each_heavy_dependency_has_one_door(package):
    """Only the named modules import it (of each package: the trainer runs models through the agent's door)."""
    for name, doors in DOORS.items():
        found = {path.stem for path in modules(package) if name in imports(path)}
        assert found <= doors, f"{name} is imported by {found - doors}, its door is {doors}"


def test_the_packages_list_equals_the_tree():
    """A forgotten package works in an editable install and is missing from the wheel."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = set(config["options"]["packages"].split())
    tree = {
        ".".join((package, *path.parent.relative_to(folder).parts))
        for package, folder in SOURCES.items()
        for path in folder.rglob("__init__.py")
    }
    assert tree == listed


def test_packaging_holds_no_python_module():
    """A .py file there would shadow the `packaging` library."""
    assert not list((ROOT / "packaging").rglob("*.py"))


def test_the_top_level_is_the_fixed_one():
    """New rooms go into the house, not beside it."""
    tracked = {path.name for path in ROOT.iterdir()}
    made = {".git", "build", "dist", "bench", "demo", "foretail.egg-info"}
    assert {name for name in tracked - made if not name.startswith(".") or name in TOP_LEVEL} <= TOP_LEVEL


@pytest.mark.parametrize("package", SOURCES)
def test_no_module_outgrows_its_room(package):
    """Split before 400 lines."""
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(package)}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("package", SOURCES)
def test_no_module_can_load_pickle(package):
    """Pickled state is code."""
    for path in modules(package):
        assert not imports(path) & {"pickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
        assert "allow_pickle=True" not in path.read_text(encoding="utf-8")
