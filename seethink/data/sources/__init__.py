"""Samples from files, one file per published format."""
