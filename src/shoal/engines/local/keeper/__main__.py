"""The keeper's process: `python -I -S <this folder> ROOT RUN -- DAEMON_ARGV...` (see `launch`)."""

import importlib
import os
import sys

# Isolated mode puts this folder first on the path, where `logs.py` could hide somebody's module of that name.
sys.path[0:1] = []
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.exit(importlib.import_module("keeper.launch").main(sys.argv))
