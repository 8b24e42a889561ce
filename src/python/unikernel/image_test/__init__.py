"""Boots an image and holds what it does against what is expected of it: see docs/testing.md."""
