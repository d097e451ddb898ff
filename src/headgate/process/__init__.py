"""The parts of one serving process, which `app` puts together."""
