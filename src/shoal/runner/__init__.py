"""What runs inside a Python replica: imports the service's application and serves it with granian on a Unix socket.

It is started by path, in the service's own interpreter (`<env>/bin/python -u <this folder>/__main__.py web hello:app
...`), so it imports nothing of shoal, nothing but the standard library and granian, and it runs on every Python that
granian supports. Read in this order: `main` (the whole life), `loading` (import the target), `detection` (ASGI or
WSGI), `serving` (granian).
"""
