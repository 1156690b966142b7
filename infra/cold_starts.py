"""How long each function takes to import, from the built bundle, in a fresh process; and how large the bundle is.

    python infra/cold_starts.py [--bundle .cloud/build] [--python .cloud/ministack/bin/python] [--times 7] [--check]

On Lambda the bundle is read-only and holds no bytecode, so that every cold start compiles what it imports.
The first column has that in it; the second is with bytecode, as on the local AWS.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from cloud_tools import HOME, ROOT, say

FUNCTIONS = ("plan", "infer", "evaluate", "summarize", "fail", "ended", "studio")
LIMITS_MS = {"studio": 900.0}
WORKER_LIMIT_MS = 1200.0
ZIPPED_LIMIT_MB = 60.0
PROGRAM = """
import sys, time
sys.path.insert(0, sys.argv[1])
started = time.perf_counter()
__import__(sys.argv[2])
print((time.perf_counter() - started) * 1000, len(sys.modules))
"""
