"""Whether a sandbox is cloned from a template, and from which one. CLI only: the supervisor gets the folder."""

import dataclasses
import os

from katapy.config import FACTORY_ENVIRONMENT, Config
from katapy.factory.blueprint import Blueprint, make_blueprint
from katapy.factory.maker import Obtained, Say, obtain
from katapy.factory.store import Store
from katapy.hypervisor.drivers import load_driver
from katapy.hypervisor.vm import Accelerator, Role
from katapy.sandbox.machine import bare_spec, load_image
from katapy.sandbox.plan import HostFacts, SandboxPlan

_LEAST_QEMU = (8, 2)
"""Since then a file can be mapped copy-on-write without the right to write it (rom=off)."""


def reason_against(config: Config, facts: HostFacts) -> str:
    """Why there are no templates here, in words; empty if there are."""
    if config.factory.templates == "off":
        return "factory.templates is off"
    if os.environ.get(FACTORY_ENVIRONMENT) == "off":
        return f"{FACTORY_ENVIRONMENT} is off"
    if config.debug.console:
        return "debug.console shows a boot"
    if facts.qemu_version < _LEAST_QEMU:
        version = ".".join(map(str, facts.qemu_version))
        return f"QEMU {version} can't share a template's memory: 8.2 or newer is needed"
    if facts.accelerator is Accelerator.TCG and not facts.generation_id:
        return "this QEMU corrupts emulated guests"
    return ""


def blueprint(facts: HostFacts, vcpus: int, memory_mib: int, config: Config) -> Blueprint:
    """Of the template for machines of that size. Raises ConfigError, HostError."""
    image = load_image(config.image.dir)
    bare = bare_spec(facts, vcpus, memory_mib, config, image, os.getpid())
    spec = dataclasses.replace(bare, role=Role.TEMPLATE)
    return make_blueprint(spec, load_driver(config.hypervisor.driver).fingerprint(spec), image.description)


def find_template(plan: SandboxPlan, config: Config, say: Say) -> Obtained:
    """The template for `plan`; it is made if there is none. Never an error: the machine boots then. ConfigError."""
    if reason_against(config, plan.facts):
        return Obtained("")
    driver, store = load_driver(config.hypervisor.driver), Store(config.factory.dir)
    wanted = blueprint(plan.facts, plan.vcpus, plan.memory_mib, config)
    return obtain(store, wanted, driver, config.factory.keep, config.timeouts.boot_s, say)
