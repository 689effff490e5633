"""Include, exclude, never our own."""

from __future__ import annotations

import pytest

from foretail.globs import Globs


@pytest.fixture
def tree(tmp_path):
    for name in ("a.log", "b.txt", "x/a.log", "x/y/a.log", "x/y/b.log", "z[1]/a.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def listed(tree, include, exclude=(), own=()):
    paths = Globs([f"{tree}/{pattern}" for pattern in include], exclude, own).paths()
    return [path.removeprefix(f"{tree}/") for path in paths]


def test_one_star_stays_in_its_folder(tree):
    """Two stars do not."""
    assert listed(tree, ["*.log"]) == ["a.log"]
    assert listed(tree, ["**/*.log"]) == ["a.log", "x/a.log", "x/y/a.log", "x/y/b.log", "z[1]/a.log"]
    assert listed(tree, ["x/**/a.log"]) == ["x/a.log", "x/y/a.log"]


def test_a_file_that_several_patterns_name_is_listed_once(tree):
    """In order of names."""
    assert listed(tree, ["*.log", "a.*", "b.txt"]) == ["a.log", "b.txt"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ("b.*", ["a.log", "x/a.log", "x/y/a.log", "z[1]/a.log"]),
        ("**/y/*", ["a.log", "x/a.log", "z[1]/a.log"]),
        ("{tree}/x/*", ["a.log", "x/y/a.log", "x/y/b.log", "z[1]/a.log"]),
        ("{tree}/x/**", ["a.log", "z[1]/a.log"]),
        ("[!b].log", ["x/y/b.log"]),
        ("[ab].log", []),
        ("?.log", []),
        ("{tree}/z[[]1]/*", ["a.log", "x/a.log", "x/y/a.log", "x/y/b.log"]),
    ],
)
def test_exclude_patterns(tree, exclude, left):
    """Names, paths, anywhere, classes."""
    assert listed(tree, ["**/*.log"], [exclude.replace("{tree}", str(tree))]) == left


def test_own_output_is_never_listed_by_any_way_to_it(tree):
    """A symbolic link leads to it as well."""
    (tree / "link.log").symlink_to(tree / "a.log")
    assert listed(tree, ["*.log"], own=[str(tree / "a.log")]) == []


def test_roots_are_the_folders_before_the_first_wildcard():
    """They may not exist yet."""
    assert Globs(["/var/log/*.log", "/srv/**/x/*.log", "/var/log/a.log"]).roots() == ["/srv", "/var/log"]


def test_relative_patterns_are_those_of_the_start(tree, monkeypatch):
    """A later change of folder changes nothing."""
    monkeypatch.chdir(tree)
    globs = Globs(["*.log"])
    monkeypatch.chdir("/")
    assert globs.paths() == [f"{tree}/a.log"]
