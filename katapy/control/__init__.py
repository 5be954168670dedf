"""The control socket between CLI and supervisor: messages, and both of its ends."""
