"""The guest's agent, PID 1 of every katapy machine: mounts, reaps, runs containers by crun, serves agent.proto.

    __main__          the order in which all of it starts
    init              mounts, cgroups, loopback, limits
    boot              the boot port: message in, phases out
    serve             event loop, server, the end
    rehearsal         what a template does before it is saved
    identity          what tells a clone from its twins
    reaper            whose child has ended
    machine           the one object behind all calls

    containers        those of this machine, and what can be done
    lifecycle         a container's states, as a table
    documents         what is read of config.json
    crun              its command lines and errors
    launch            a process by `crun create` or `crun exec`
    streams, fdio     a process's stdio, as descriptors
    namespaces        handles for containers that join them
    cgroup            one container's
    resources         linux.resources as cgroup writes
    stats, ps         figures and processes
    oom, events       what happens, for the host to hear

    hotplug, modules  what is plugged in later, and its driver
    disks, growth     disks; processors and memory
    shares            the pod's share
    writes            a root whose changes stay here
    memory_volumes    volumes in the guest's memory
    pod_namespace     the pod's network namespace
    network           and what is in it

    transport/        the host's byte pipe to the server's socket
    service/          the calls, one file per group

Imports protocol, oci, linux and errors of katapy and nothing else of it.
"""
