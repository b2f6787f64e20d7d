"""user-service: accounts, and tokens that tell other services who asks."""
