"""What finished networks hold, layer by layer: measurements on the networks of a run, without training them again."""

#: the file that they are written to, in a run's folder
TABLE = "diagnostics.csv"
