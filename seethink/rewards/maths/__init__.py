"""Mathematical answers: read by one bounded parser, compared as values, sets and regions."""
