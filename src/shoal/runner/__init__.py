"""What runs inside a Python replica, in the service's own environment. Standard library and granian only."""
