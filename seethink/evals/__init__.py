"""Evaluation of a local model or an endpoint on a board: a JSONL file of samples with golds."""
