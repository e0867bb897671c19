"""Many clients, many losses, and a judge of what they saw."""
