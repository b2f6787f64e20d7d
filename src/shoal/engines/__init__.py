"""What runs replicas: the local one makes processes."""
