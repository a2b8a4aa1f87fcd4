"""The programs that show a fault, and are printed."""
