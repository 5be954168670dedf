"""A test host: a clone of its template, with this checkout in it. Runs in its owner: pytest, `make testhost`."""

import time
from pathlib import Path

from katapy.errors import HostError
from testhost import description, image, source, template
from testhost.machine import Process
from testhost.session import Session, TestHostError

GUEST_IMAGES = Path("/var/lib/katapy/images")


class TestHost(Session):
    """Starts in seconds, but for the first time, when image and template are made."""

    __test__ = False

    def __init__(
        self,
        suite: str = "",
        output: Path = image.OUTPUT,
        guest: Path = GUEST_IMAGES / "current",
        warm: bool = False,
    ) -> None:
        """`warm`: katapy starts its machines in it from a template, if the suite can. TestHostError, BuildError."""
        if not (guest / "image.json").exists():
            raise TestHostError(f"no guest image in {guest}: make image")
        what = description.load()
        folder = image.image(output, suite)
        warm = warm and what.suite(suite).templates
        saved = template.template(output, what, folder, image.guest_disk(output, guest), warm)
        try:
            super().__init__(Process(what, saved.disks, clone=True))
        except HostError as e:
            raise TestHostError(str(e)) from e
        try:
            template.resume(self.process, saved)
            self._bring_checkout()
        except BaseException:
            self.close()
            raise

    def _bring_checkout(self) -> None:
        """And what a clone can't know: the time. Its random numbers are mended by vmgenid."""
        self.demand(["date", "-s", f"@{time.time():.3f}"])
        source.bring(self)
