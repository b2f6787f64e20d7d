"""What outlives the daemon: SQLite, and the shipped in-memory fake's contract."""
