"""Migrations: once for each revision, locked, as processes of the keeper."""
