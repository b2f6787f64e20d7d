"""The shop's pages: rendered here, from what the three services say. It keeps nothing itself."""
