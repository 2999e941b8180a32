"""Logging, progress and metrics over the standard library; importing configures nothing."""
