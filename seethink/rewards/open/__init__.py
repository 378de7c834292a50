"""Open answers: what a scorer thinks of them, and guards that look first."""
