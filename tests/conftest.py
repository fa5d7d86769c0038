import os
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
sys.path.insert(0, str(Path(__file__).parent / "ops"))  # for `from records import ...`
# Child processes must import the installed package, not the source folder they are started from.
os.environ["PYTHONSAFEPATH"] = "1"
