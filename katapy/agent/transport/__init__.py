"""The host's byte pipe to the server's unix socket. Runs in the agent, as a process of its own.

`relay` is the pump, `serial` a virtio-serial port on one side of it, `vsock` a listening AF_VSOCK socket, `child` the
process.
"""
