"""What ``peftrec data inspect`` finds out about a file: see :mod:`peftrec.data.inspect`."""
