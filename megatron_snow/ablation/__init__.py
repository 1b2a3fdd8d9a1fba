"""Studies: one recipe in several arms, each with several seeds, on shared artefacts, and what can be said of their differences."""
