"""ILSVRC 2012 made ready for the paper: images found, lists checked against the authors', LMDBs, subsets and means."""
