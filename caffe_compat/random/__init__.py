"""Caffe's random numbers: one stream for the whole process, and streams of one's own.

Fillers, dropout and the data layers draw from the process-wide stream, as in Caffe, so that a net built after
``set_seed`` has the weights that Caffe would give it.
"""

from caffe_compat.random.caffe_generator import CaffeGenerator
from caffe_compat.random.process_stream import generator, is_seeded, scope, set_seed

__all__ = ["CaffeGenerator", "generator", "is_seeded", "scope", "set_seed"]
