"""The zygote (`katapy factory serve`): one process a host that has imported what supervisors need, and forks them.

It also keeps warm machines (`factory.pool`): clones that run already, each with its supervisor, that wait for a pod.
Without it `create` forks its supervisor itself. docs/decisions/0007-zygote.md
"""
