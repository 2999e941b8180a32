"""Executors past one machine."""
