"""`shoal prove`: load on the user's own app, disturbances under it, and an honest account of what was lost."""
