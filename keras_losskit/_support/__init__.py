"""What several rooms need: checks, paths, structures, replicas, scopes."""
