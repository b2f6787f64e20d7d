"""Pure decisions: what is wanted and what is there -> what to do next, and why."""
