#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ask the QEMU guest agent: freeze or thaw all file systems of a guest.

agent.py SOCKET freeze|thaw|ping

SOCKET is the path of QEMU's end of the agent's channel, which takes one client at a
time (libvirt, where there is one, is the client: use virsh then):

  -device virtio-serial-pci -chardev socket,id=agent,path=SOCKET,server=on,wait=off
  -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0

Exit status 1, with the reason, if the agent refuses, if it does not answer within
eight seconds, which is less than nbdmigrate gives a hook, or if nothing was frozen.
"""

import json
import os
import socket
import sys
import time

SECONDS = 8
COMMANDS = {
    "freeze": "guest-fsfreeze-freeze",
    "thaw": "guest-fsfreeze-thaw",
    "ping": "guest-ping",
}


class Agent:
    def __init__(self, path):
        self.end = time.monotonic() + SECONDS
        self.buffer = b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.wait()
        self.socket.connect(path)
        self.synchronise()

    def wait(self):
        """What follows has no longer than what is left of the time."""
        self.socket.settimeout(max(self.end - time.monotonic(), 0.001))

    def read_until(self, byte):
        while byte not in self.buffer:
            self.wait()
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("QEMU has closed the connection")
            self.buffer += data
        before, _, self.buffer = self.buffer.partition(byte)
        return before

    def send(self, command, **arguments):
        message = {"execute": command}
        if arguments:
            message["arguments"] = arguments
        self.wait()
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def synchronise(self):
        """Answers to a client before this one may be on their way still, and the agent
        may be in the midst of a line of it, which the first byte ends."""
        number = int.from_bytes(os.urandom(4), "big")
        self.wait()
        self.socket.sendall(b"\xff")
        self.send("guest-sync-delimited", id=number)
        while True:
            self.read_until(b"\xff")
            line = self.read_until(b"\n")
            try:
                if json.loads(line).get("return") == number:
                    return
            except ValueError:
                pass

    def ask(self, command):
        self.send(command)
        answer = json.loads(self.read_until(b"\n"))
        if "error" in answer:
            raise ConnectionError(answer["error"].get("desc", "refused"))
        return answer["return"]


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in COMMANDS:
        sys.exit("usage: agent.py SOCKET freeze|thaw|ping")
    path, what = sys.argv[1:]
    try:
        answer = Agent(path).ask(COMMANDS[what])
    except socket.timeout:
        sys.exit(f"agent.py: {what}: the agent behind {path} does not answer")
    except (OSError, ValueError) as e:
        sys.exit(f"agent.py: {what}: {path}: {e}")
    if what == "freeze" and answer == 0:
        sys.exit("agent.py: freeze: the guest has no file system that can be frozen")


main()
