"""Processes on this machine: the keeper that is parent of all, and what a replica needs around it."""
