"""Training program of the embedded demo model (see ../README.md)."""
