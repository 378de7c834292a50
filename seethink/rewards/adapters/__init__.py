"""The same rewards behind the hooks of other trainers: one file each, all through `score_batch`."""
