"""Helpers of the end-to-end tests: processes, Docker, raw requests, waiting."""
