"""A first config file from a folder of extracts: names become patterns, samples become settings. `pushengine init` writes it."""
