"""The policy and how a group of completions goes through it at once."""
