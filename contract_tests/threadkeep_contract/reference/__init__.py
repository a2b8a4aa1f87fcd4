"""The reference model, and the ways in which what a store shows is compared with it."""
