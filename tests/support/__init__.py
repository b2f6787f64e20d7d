"""What tests of several kinds share: the prober, a whole plane in a temporary folder, ports."""
