"""Storage: one contract (`base`), and the stores that implement it."""
