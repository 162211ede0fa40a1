"""Jobs that travel to the GPU: config in, metrics and result out. Imports nothing else of the project."""
