"""Logs that are longer than memory."""
