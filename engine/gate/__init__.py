"""The remote gate: asks another process what a text holds; the verdict is still made here, by `engine.reflex`."""
