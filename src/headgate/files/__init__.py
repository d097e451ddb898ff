"""Files and uploads: how they are written, found, kept and forgotten."""
