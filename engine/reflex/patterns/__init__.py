"""The gate's pattern data: one TOML file per category, read by `engine.reflex.catalogue`."""
