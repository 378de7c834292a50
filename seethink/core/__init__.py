"""Nouns, tags, typed configs, run folders and files. Imports nothing else of seethink."""
