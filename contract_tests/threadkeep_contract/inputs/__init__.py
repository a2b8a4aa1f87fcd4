"""What is given to a store: random operations, ids that are easily taken for one, and what of that it takes."""
