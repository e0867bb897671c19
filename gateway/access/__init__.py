"""Access: which pages may connect, who acts, and how often."""
