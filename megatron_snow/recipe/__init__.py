"""The recipe: one typed YAML file that describes the whole road, and the road it describes."""
