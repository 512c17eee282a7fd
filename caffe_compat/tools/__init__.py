"""One file per command of ``caffe-compat``."""
