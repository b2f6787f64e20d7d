"""A small shop of three services, each a module: `users`, `products`, `carts`.

`database`, `secrets` and `idempotency` are what they share: code, never data.
"""
