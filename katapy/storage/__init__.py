"""What of the host a guest sees: the shared directory and its server, block devices. Supervisor; probes in the CLI."""
