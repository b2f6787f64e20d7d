"""Shoal: many small services, moving as one."""

__version__ = "0.1.0"
