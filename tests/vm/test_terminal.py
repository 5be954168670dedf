"""Containers with a terminal: in the foreground, and by a console socket."""

import signal
from pathlib import Path

from framework.fixtures import BundleMaker
from framework.runtime import BOOT_S, Runtime, closing_popen
from framework.terminal import ConsoleSocket, spawn
from framework.wait import PATIENCE


def test_run_hands_its_own_terminal_on(runtime: Runtime, bundle: BundleMaker) -> None:
    made = bundle(
        "sh",
        "-c",
        "until stty size; do :; done 2>/dev/null; tty; read line; echo got $line; sleep 1000; :",
        terminal=True,
    )
    process, terminal = spawn(runtime.argv("run", "--bundle", made.path, runtime.new_id()), size=(91, 17))
    with closing_popen(process), terminal:
        terminal.expect(r"17 91\r\n/dev/(console|pts/\d+)\r\n", BOOT_S)
        terminal.send("hello\n")
        terminal.expect(r"got hello\r\n")
        terminal.send("\x03")
        assert process.wait(30 * PATIENCE) == 128 + signal.SIGINT


def test_a_console_socket_gets_the_terminal(runtime: Runtime, bundle: BundleMaker, scratch: Path) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do read line || continue; [ $line = end ] && exit 4; done"
    made = bundle("sh", "-c", script, terminal=True, process={"consoleSize": {"width": 70, "height": 20}})
    with ConsoleSocket(scratch / "console") as console:
        container = runtime.create(made, "--console-socket", console.path)
        with console.receive() as terminal:
            container.start()
            terminal.expect(r"20 70\r\n")
            terminal.resize(132, 43)
            terminal.expect(r"43 132\r\n")
            terminal.send("end\n")
            assert container.wait() == 4
            terminal.rest()
    container.wait_status("stopped")
    container.delete()
