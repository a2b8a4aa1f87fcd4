"""Faults that law 8, reading, must find."""
