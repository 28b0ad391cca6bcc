"""Canaries of every kind pass through every way in, and are looked for at every way out."""
