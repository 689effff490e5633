"""docs/schema describes what the program writes: schemas are generated, examples and real output fit them."""

from __future__ import annotations

import json

import jsonschema
import pytest
import schemas

from foretail.state import Snapshot

KINDS = {"line": "verdict", "session": "verdict", "incident": "incident", "notice": "incident"}


def schema(name: str) -> dict:
    return json.loads((schemas.FOLDER / f"{name}.schema.json").read_bytes())


@pytest.mark.parametrize("name", schemas.FORMATS)
def test_the_schema_is_that_of_the_program(name):
    """`python tests/schemas.py` writes it; a changed format shows in a diff."""
    assert (schemas.FOLDER / f"{name}.schema.json").read_bytes() == schemas.written(name)


@pytest.mark.parametrize("name", schemas.FORMATS)
def test_the_example_fits_its_schema(name):
    """And the schema itself is a valid one."""
    jsonschema.Draft202012Validator.check_schema(schema(name))
    example = json.loads((schemas.FOLDER / "examples" / f"{name}.json").read_bytes())
    jsonschema.validate(example, schema(name), cls=jsonschema.Draft202012Validator)


@pytest.mark.parametrize("emit", ["lines", "sessions", "incidents"])
def test_everything_the_agent_says_fits_the_schemas(emit):
    """Each record of the golden log by its kind."""
    checkers = {name: jsonschema.Draft202012Validator(schema(name)) for name in set(KINDS.values())}
    for line in (schemas.GOLDEN / f"{emit}.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        checkers[KINDS[record["kind"]]].validate(record)


@pytest.mark.parametrize("name", ["manifest", "patterns"])
def test_the_files_of_a_bundle_fit_the_schemas(name):
    """As `fit` wrote them."""
    jsonschema.validate(json.loads((schemas.GOLDEN / "bundle" / f"{name}.json").read_bytes()), schema(name))


def test_the_example_of_the_state_is_what_the_agent_keeps():
    """The example is made by the agent's own code, field for field."""
    assert schemas.example("state") == (schemas.FOLDER / "examples" / "state.json").read_bytes()
    assert set(json.loads(schemas.example("state"))) == set(Snapshot.__struct_fields__)
