"""What traces look like: lexicons, hesitation, length, truth of their steps. Checkers are arguments; it knows no world."""
