"""product-service: the catalogue, its prices, and how many of each thing are left."""
