"""The supervisor's process: its start, its event loop, the requests it answers."""
