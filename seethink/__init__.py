"""seethink: should a vision-language model learn to reason by imitation (SFT) or exploration (GRPO)?

Importing the package loads nothing heavy; every verb of the command line imports what it needs.
"""

__version__ = "0.1.0"
