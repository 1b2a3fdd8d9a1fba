"""The report's sections, one module each: artefacts in, HTML out."""
