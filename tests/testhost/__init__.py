"""A virtual machine that is a host with real KVM, vhost-vsock, cgroup v2 and systemd, for tests. See README.md."""
