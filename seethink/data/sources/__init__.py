"""Where samples come from: one file per published format.

A source is a function `read(path, images)` from a file, and the folder of its images where there is one, to samples in the
order of the file. It raises UserError naming file, row and remedy. Golds are repaired there by rules or not at all.
"""

from seethink.data.sources import paper, rows

FORMATS = {"rows": rows.read, "paper": paper.read}
