"""Where pycaffe users look for the message classes."""
