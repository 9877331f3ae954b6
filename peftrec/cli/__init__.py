"""The command line: ``peftrec --help``."""
