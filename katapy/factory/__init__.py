"""Templates: machines that were booted once and saved, of which each pod gets a clone. CLI and supervisor.

`blueprint` says what a template is made of and what its name is, `store` keeps them on disk, `maker` makes one when it
is missing. How a machine is saved and loaded is the hypervisor's affair.
"""
