import os
import sys

# `python -m` looks into the current folder first: modules of a stranger's folder would stand in for installed ones
if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from seethink.cli import main  # noqa: E402

raise SystemExit(main())
