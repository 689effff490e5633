"""Header and record formats and time stamps: the names other modules use (issue 3, build 2)."""

from foretail.detection import detect
from foretail.headers import parse_format
from foretail.stamps import Clock

__all__ = ["Clock", "detect", "parse_format"]
