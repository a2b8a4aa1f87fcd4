"""Faults that law 12, errors and lifecycle, must find."""
