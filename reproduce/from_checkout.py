"""Lets ``python reproduce/<script>.py`` work in a checkout that is not installed: a script imports this first.

Python puts the folder of a script on its path; the packages lie in the folder above.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)
