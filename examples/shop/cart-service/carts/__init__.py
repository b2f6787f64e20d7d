"""cart-service: carts, what is in them, and how one becomes an order that is paid."""
