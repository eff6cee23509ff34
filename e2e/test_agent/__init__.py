"""A container agent that is not ours: it speaks to the control plane as the official one does.

`instance` registers and reports over HTTP, `acs` and `tcs` hold the two websockets, `engine` plays
a whole agent without Docker. Section numbers in the docstrings are those of AGENT-PROTOCOL;
what the official agent would refuse or silently drop, these classes refuse with an
AssertionError.
"""
