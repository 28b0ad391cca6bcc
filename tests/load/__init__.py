"""Benchmarks: run by hand, side by side in one run, medians of several; no test asserts an absolute time."""
