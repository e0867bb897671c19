"""What is done to the project, and not by it."""
