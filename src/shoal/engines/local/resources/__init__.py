"""The servers that services keep their data in, as processes of the keeper."""
