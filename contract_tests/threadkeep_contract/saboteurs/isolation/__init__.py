"""Faults that law 1, isolation, must find."""
