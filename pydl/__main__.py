"""``python -m pydl``: the command line of `pydl.cli`."""

import sys

from pydl.cli import main

sys.exit(main())
