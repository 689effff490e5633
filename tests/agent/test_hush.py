"""Chatter of native libraries stays out of the log; everything else gets through."""

import os

import pytest

from foretail.hush import hush


def test_chatter_is_held_back_and_the_rest_is_kept(capfd):
    """Lines that begin with INFO: vanish, others appear once, later ones at once."""
    with hush():
        os.write(2, b"INFO: Created a delegate.\nERROR: it burns\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "ERROR: it burns\nafter\n"


def fail():
    os.write(2, b"why it failed\n")
    raise KeyError


def test_an_exception_passes(capfd):
    """What was said before an exception is not lost."""
    with pytest.raises(KeyError), hush():
        fail()
    assert capfd.readouterr().err == "why it failed\n"
