"""Tests of the rooms that carry a run's steps out."""
