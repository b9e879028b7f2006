"""A published system is one file of typed configs."""
