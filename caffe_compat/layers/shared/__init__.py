"""What several layer types share: size rules, fillers, and bases of families of layers.  No layer types."""
