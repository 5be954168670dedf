"""System calls and files of the kernel that Python has no names for. Leaves; any process of host or guest."""
