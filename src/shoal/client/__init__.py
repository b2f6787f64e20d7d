"""The typed client of the HTTP API, and how a plane is brought up."""
