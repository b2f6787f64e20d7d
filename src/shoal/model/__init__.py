"""The nouns. Frozen dataclasses and enums, standard library only; nothing here does anything.

Read in this order: `app` (what the user wants), `replica` (what runs), `world` (the two side by side), `event` (what
happened), `action` (what to do next).
"""
