"""The subcommands of ``gateway``, one module each, listed in ``gateway/cli.py``; ``launch`` is what it does without."""
