"""Numbers about requests, and what may be concluded from them. Pure: counts in, values out."""
