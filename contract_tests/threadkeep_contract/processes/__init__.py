"""Processes of their own that work on a store, and die in the middle of it."""
