#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Move a running guest to another QEMU: RAM by QEMU, disk by nbdmigrate.

The order is what matters, because at every instant exactly one QEMU may
write to exactly one disk:

  1. the disk is copied and kept in sync        guest runs on the source
  2. the RAM is copied                          guest runs on the source
  3. pre-switchover: the source guest is paused, its last write is on disk
  4. nbdmigrate finish: the source disk is fenced, the destination has it all
  5. migrate-continue: device state follows, the destination has the guest,
     still paused (-S)
  6. cont on the destination                    guest runs on the destination

Until 4 a failure costs nothing: the source guest goes on.  From 4 to 6 the
way back is: make sure that the destination QEMU is gone, reopen the source
disk, let the source guest go on.  README.md says what the two QEMUs need.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import threading
import time


class Failed(Exception):
    """The guest can go on somewhere, and move() knows where."""


class Silent(Failed):
    """A QEMU gave no answer: what it did with the command is not known."""


class Gone(Silent):
    """Its monitor is closed, which is the last thing that a QEMU does."""


class Unknown(Exception):
    """Nobody may go on before a person has looked."""


def say(text):
    print(f"orchestrate: {text}", file=sys.stderr, flush=True)


class Qemu:
    """One QMP connection.  Events are kept until somebody waits for them."""

    def __init__(self, name, path, timeout):
        self.name = name
        self.timeout = timeout
        self.events = []
        self.last_id = 0
        self.buffer = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(path)
        except OSError as e:
            raise Failed(f"{name} QEMU: connect to {path}: {e.strerror}")
        try:
            self.receive(timeout)  # the greeting
        except (Gone, Silent):
            raise Failed(f"{name} QEMU: nothing greets at {path}: is QEMU's "
                         "monitor there, and has it no other client?")
        self.run("qmp_capabilities")

    def receive(self, timeout):
        """timeout: seconds, or None for ever."""
        while b"\n" not in self.buffer:
            self.socket.settimeout(timeout)
            try:
                data = self.socket.recv(65536)
            except socket.timeout:
                raise Silent(f"{self.name} QEMU: no answer in time")
            except OSError:
                data = b""
            if not data:
                raise Gone(f"{self.name} QEMU has ended")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def run(self, command, **arguments):
        self.last_id += 1
        request = {"execute": command, "arguments": arguments,
                   "id": self.last_id}
        try:
            self.socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise Gone(f"{self.name} QEMU has ended")
        while True:
            answer = self.receive(self.timeout)
            if "event" in answer:
                self.events.append(answer)
            elif answer.get("id") != self.last_id:
                continue  # to a command that a signal made us leave
            elif "error" in answer:
                raise Failed(f"{self.name} QEMU: {command}: "
                             + answer["error"]["desc"])
            else:
                return answer["return"]

    def next_event(self, deadline=None):
        if self.events:
            return self.events.pop(0)
        if deadline is None:
            return self.receive(None)
        return self.receive(max(deadline - time.monotonic(), 0.001))

    def wait_migration(self, wanted, deadline=None):
        """Waits until the migration of RAM has this status."""
        while True:
            event = self.next_event(deadline)
            if event.get("event") != "MIGRATION":
                continue
            status = event["data"]["status"]
            if status == wanted:
                return
            if status in ("failed", "cancelled"):
                why = self.run("query-migrate").get("error-desc", "no reason")
                raise Failed(f"{self.name} QEMU: migration {status}: {why}")

    def capabilities(self, *names):
        self.run("migrate-set-capabilities", capabilities=[
            {"capability": name, "state": True} for name in names])

    def status(self):
        return self.run("query-status")["status"]

    def quit(self):
        """True once this QEMU is known to be gone."""
        try:
            self.run("quit")
            while True:
                self.receive(self.timeout)
        except Gone:
            return True
        except Silent:
            return False


class Disk:
    """One nbdmigrate, kept in sync until it is told to finish."""

    def __init__(self, args):
        self.args = args
        self.process = None
        self.ready = False

    def command(self, *arguments):
        """Exit status and standard output."""
        try:
            done = subprocess.run([self.args.nbdmigrate, *arguments],
                                  stdout=subprocess.PIPE, text=True,
                                  start_new_session=True,
                                  timeout=self.args.timeout, check=False)
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout

    def start(self):
        """Returns when the disk is in sync."""
        # Its own session: ^C is for this program to act on.
        self.process = subprocess.Popen(
            [self.args.nbdmigrate, "--quiet", "--json", "--wait",
             "--finish=handover", *self.args.options,
             self.args.source_disk, self.args.destination_disk],
            stdout=subprocess.PIPE, text=True, start_new_session=True)
        changed = threading.Event()
        threading.Thread(target=self.read_events, args=[changed],
                         daemon=True).start()
        changed.wait()
        if not self.ready:
            raise Failed(f"nbdmigrate ended with {self.process.wait()}")

    def read_events(self, changed):
        """To the end: nbdmigrate must never find the pipe full."""
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "phase" and event["phase"] == "ready":
                self.ready = True
                changed.set()
        changed.set()

    def finish(self):
        """True if the destination owns the disk now, False if the source."""
        status, _ = self.command("finish", "--no-wait", self.args.source_disk, "handover")
        if status == 0 and self.wait() == 0:
            return True
        # Whatever it was, the proxy knows who owns the disk.
        self.stop()
        return self.owner() != "source"

    def owner(self):
        deadline = time.monotonic() + self.args.timeout
        while time.monotonic() < deadline:
            _, text = self.command("status", "--json", self.args.source_disk)
            try:
                status = json.loads(text)
            except ValueError:
                break
            if status["owner"] == "unknown":
                break
            if status["gate"] != "committing":
                return status["owner"]
            time.sleep(0.1)
        raise Unknown("nobody can say who owns the disk; both guests stay "
                      "paused; ask `nbdmigrate status` of the proxy's "
                      "directory")

    def reopen(self):
        status, _ = self.command("reopen", self.args.source_disk,
                                 "owner=source")
        if status != 0:
            raise Unknown("nbdmigrate reopen failed; the guest stays paused")

    def wait(self):
        """Its exit status, or None if it does not end."""
        try:
            return self.process.wait(self.args.timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self):
        """Also on every way out: no nbdmigrate is left behind."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            if self.wait() is None:
                self.process.kill()
                self.process.wait()


def check(source, destination):
    if source.status() != "running":
        raise Failed("the source guest is not running")
    if destination.status() != "inmigrate":
        raise Failed("the destination QEMU needs -incoming defer")


def copy_ram(args, source, destination):
    """Ends with the source guest paused and its requests drained.

    However long that takes: the guest is running.
    """
    source.capabilities("events", "pause-before-switchover")
    # Until `cont` the destination touches no disk.
    destination.capabilities("events", "late-block-activate")
    destination.run("migrate-incoming", uri=args.listen or args.ram)
    source.run("migrate", uri=args.ram)
    source.wait_migration("pre-switchover")


def switch_over(source, destination):
    deadline = time.monotonic() + source.timeout
    source.run("migrate-continue", state="pre-switchover")
    source.wait_migration("completed", deadline)
    destination.wait_migration("completed", deadline)
    try:
        destination.run("cont")
    except Silent as e:
        # Going back would forget what it did if it ran for a moment.
        raise Unknown(f"{e}: the guest may have run on the destination; the "
                      "source guest stays paused")


def go_on_at_the_source(source):
    """The disk was never handed over, so cancelling is all it takes."""
    source.run("migrate_cancel")
    deadline = time.monotonic() + source.timeout
    while source.status() != "running":
        source.next_event(deadline)


def come_back(source, destination, disk):
    """The disk is fenced and the destination did not start."""
    if not destination.quit():
        raise Unknown("the destination QEMU may still run: the source guest "
                      "stays paused.  Make sure that it is gone, then "
                      "`nbdmigrate reopen` the disk and `cont` the source")
    # A source that has resumed by itself stopped at its first request,
    # thanks to rerror=stop,werror=stop.  It may also not have made one yet.
    source.run("stop")
    disk.reopen()
    source.run("cont")
    if source.status() != "running":
        raise Failed(f"the source guest is {source.status()}")


def on_signals(handler):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def interrupted(number, _frame):
    on_signals(signal.SIG_IGN)
    raise Failed(f"interrupted by {signal.Signals(number).name}")


def move(args, source, destination, disk):
    check(source, destination)
    disk.start()
    say("the disk is in sync")
    try:
        copy_ram(args, source, destination)
        say("the RAM is copied, the guest is paused")
        # From here on it is quicker to end this than to interrupt it.
        on_signals(signal.SIG_IGN)
        if not disk.finish():
            raise Failed("the disk could not be handed over")
    except Failed as e:
        on_signals(signal.SIG_IGN)
        disk.stop()
        go_on_at_the_source(source)
        raise Failed(f"{e}; the guest runs on the source")
    say("the disk is handed over")
    try:
        switch_over(source, destination)
    except Failed as e:
        say(str(e))
        come_back(source, destination, disk)
        raise Failed("the guest runs on the source again")
    say("the guest runs on the destination")
    source.quit()


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--source-qmp", required=True, metavar="SOCKET")
    p.add_argument("--destination-qmp", required=True, metavar="SOCKET")
    p.add_argument("--ram", required=True, metavar="URI",
                   help="where the RAM goes, such as tcp:host2:4444")
    p.add_argument("--listen", metavar="URI",
                   help="what the destination QEMU listens on [--ram]")
    p.add_argument("--nbdmigrate", default="nbdmigrate", metavar="PROGRAM")
    p.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    p.add_argument("source_disk", metavar="SOURCE")
    p.add_argument("destination_disk", metavar="DESTINATION")
    p.add_argument("options", nargs=argparse.REMAINDER,
                   help="more options of nbdmigrate, such as --rate=50M")
    return p.parse_args()


def main():
    args = arguments()
    disk = Disk(args)
    on_signals(interrupted)
    try:
        source = Qemu("source", args.source_qmp, args.timeout)
        destination = Qemu("destination", args.destination_qmp, args.timeout)
        move(args, source, destination, disk)
    except Failed as e:
        say(str(e))
        sys.exit(1)
    except Unknown as e:
        say(str(e))
        sys.exit(5)
    finally:
        disk.stop()


if __name__ == "__main__":
    main()
