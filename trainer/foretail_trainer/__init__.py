"""foretail's trainer: turns normal logs into the bundle that the agent runs."""
