"""The model as Envoy resources: listeners, routes, clusters, endpoints. Pure; no stream, no socket."""
