"""The data sets, one a module: each holds an object DATA_SET, which ``reproduce/dataset.py`` finds by itself.

A module imports what is slow to load (drawing, PyTorch) in its functions: ``--help`` imports all of them.
"""
