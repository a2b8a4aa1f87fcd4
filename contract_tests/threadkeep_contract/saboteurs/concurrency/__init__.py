"""Faults that law 5, concurrency, must find."""
