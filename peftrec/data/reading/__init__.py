"""From a file or table of any kind to a frame with our names and types, or a typed error that says what is wrong with it."""
