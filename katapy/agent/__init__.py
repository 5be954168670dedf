"""The guest's agent, PID 1 of every katapy machine: mounts, reaps, runs containers by crun, serves agent.proto.

    __main__     the order in which all of it starts          lifecycle    a container's states, as a table
    init         mounts, cgroups, loopback, limits            containers   the containers of this machine
    boot         the boot port: message in, phases out        launch       a process by `crun create` or `crun exec`
    reaper       whose child has ended                        streams      a process's stdio, as descriptors
    crun         command lines and errors of crun             resources    linux.resources as cgroup writes
    cgroup       one container's cgroup                       stats        cgroup files as a StatsReply
    transport/   the host's byte pipe to the server's socket  service/     the calls, one file per group

Imports protocol, oci, linux and errors of katapy and nothing else of it.
"""
