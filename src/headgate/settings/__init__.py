"""The parts of the configuration, which `config` puts together."""
