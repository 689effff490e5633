"""foretail's agent: tails logs, types each line, scores the sequence, says what should not have come next."""

__version__ = "0.1.0"
