"""Crash proof: load on several hosts, kill -9 of everything, and a checker of what clients saw.

`python -m crash --help` (from `e2e/`), or `make crash`. Begin reading with `run.py`; what must hold
is `rules.py`, which knows nothing of processes: it reads `observed.py` alone, so it can be tested.
"""
