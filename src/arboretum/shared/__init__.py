"""The thin functional face of the object model, the process layer and the logging layer."""
