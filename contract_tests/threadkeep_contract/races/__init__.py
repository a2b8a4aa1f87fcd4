"""Calls of several at once, or of one after another, in tasks, threads and processes."""
