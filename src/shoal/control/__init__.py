"""The loop: inbox, controller, executor, journal."""
