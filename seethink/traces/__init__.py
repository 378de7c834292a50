"""What traces look like: hesitation, length, truth of their steps. Checkers are arguments; it knows no world."""
