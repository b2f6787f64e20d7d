"""All of it: one application, one process, one database."""

import carts
import products
import users
from base import app

__all__ = ["app", "carts", "products", "users"]
