"""`network: own`: whether it is to be had, the addresses of replicas, and sockets that reach them."""
