"""From tiers on disk to training samples: how the tiers are mixed, how documents become sequences, in which order."""
