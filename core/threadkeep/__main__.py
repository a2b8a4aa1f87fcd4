"""`python -m threadkeep` is the command `threadkeep`."""

from __future__ import annotations

from threadkeep.cli import main

# Worker processes import this module again under another name.
if __name__ == "__main__":
    main(prog_name="threadkeep")
