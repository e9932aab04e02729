"""What people run around training."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# `python -m` puts the working folder first, and a user's own yaml.py in it would be run; while it
# looks for the module, argv[0] is "-m"
if (
    sys.argv[:1] == ["-m"]
    and not sys.flags.safe_path
    and sys.path[0] == os.getcwd()
    and not os.path.samefile(sys.path[0], _ROOT)
):
    del sys.path[0]
