"""Seeds and arms together: running them, comparing them, showing them."""
