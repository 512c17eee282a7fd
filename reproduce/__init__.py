"""The experiment of Yosinski et al., NIPS 2014, from images to figures, on top of caffe_compat."""
