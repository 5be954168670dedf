"""The pod's network namespace on the host. Runs in the supervisor; CLI for checks and for what is left."""
