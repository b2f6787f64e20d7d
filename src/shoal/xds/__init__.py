"""Everything between the control plane and Envoy: the delta ADS stream, and how Envoy is found, started and asked."""
