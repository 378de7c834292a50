"""Where samples come from: one file per published format.

`rows` and `paper` are functions `read(path, images)` from a file, and the folder of its images where there is one, to
samples in the order of the file. The paper's nine sources are declarations of their own, which `published.read` reads. All
raise UserError naming file, row and remedy. Golds are repaired by rules or not at all.
"""

from seethink.data.sources import paper, rows
from seethink.data.sources.table import NINE

READERS = {"rows": rows.read, "paper": paper.read}
SOURCES = {source.name: source for source in NINE}
FORMATS = (*READERS, *SOURCES)
