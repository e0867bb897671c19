"""What the command ``gateway`` can do: one module for each, put into the table of ``gateway/cli.py``."""
