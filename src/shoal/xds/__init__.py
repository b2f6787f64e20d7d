"""The delta ADS server, and what Envoy needs to start."""
