# SPDX-License-Identifier: BSD-3-Clause
#
# mirror.py SOCKET MODE: have a qemu-storage-daemon mirror its node "source" to
# its node "copy", and complete the job once it is in sync.  MODE is what QEMU
# calls copy-mode.

import json
import socket
import sys


def command(name, **arguments):
    f.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    f.flush()
    while True:
        answer = json.loads(f.readline())
        if "error" in answer:
            sys.exit(str(answer))
        if "return" in answer:
            return
        note(answer)


def note(answer):
    if answer.get("event") == "BLOCK_JOB_ERROR":
        sys.exit(str(answer))
    events.append(answer.get("event"))


def wait_for(event):
    while event not in events:
        note(json.loads(f.readline()))


events = []
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile("rw")
f.readline()
command("qmp_capabilities")
command("blockdev-mirror", **{"job-id": "j", "device": "source",
                              "target": "copy", "sync": "full",
                              "copy-mode": sys.argv[2]})
wait_for("BLOCK_JOB_READY")
command("job-complete", id="j")
wait_for("BLOCK_JOB_COMPLETED")
