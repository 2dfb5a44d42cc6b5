"""A trained network as one folder that other programs can use: compiled for no machine in particular, described, and
checked when it is read."""
