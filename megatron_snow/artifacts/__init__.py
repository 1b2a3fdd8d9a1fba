"""What every arrow stands on: typed settings, units, documents, manifests, atomic publication, progress."""
