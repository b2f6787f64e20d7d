"""The command line. `main` finds the command, one module holds each, `output` prints; all reach the plane through the
client."""
