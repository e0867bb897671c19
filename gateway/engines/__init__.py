"""What is kept and in which order it happened: one contract (`base`), and the stores that keep it."""
