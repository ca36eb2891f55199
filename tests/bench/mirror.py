# SPDX-License-Identifier: BSD-3-Clause
#
# mirror.py SOCKET MODE [LIMIT]: have a qemu-storage-daemon mirror its node
# "source" to its node "copy", and complete the job once it is in sync.  MODE is
# what QEMU calls copy-mode.  Prints when completion was asked for and when it was
# complete, in seconds since the epoch.  Exit status 4: it had copied so many bytes and was not in
# sync, so it was cancelled.

import json
import socket
import sys
import time


def command(name, **arguments):
    requests.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    requests.flush()
    while True:
        answer = json.loads(answers.readline())
        if "error" in answer:
            sys.exit(str(answer))
        if "return" in answer:
            return answer["return"]
        note(answer)


def note(answer):
    if answer.get("event") == "BLOCK_JOB_ERROR":
        sys.exit(str(answer))
    events.append(answer.get("event"))


def wait_for(event):
    while event not in events:
        note(json.loads(answers.readline()))


def wait_until_ready(limit):
    while "BLOCK_JOB_READY" not in events:
        if any(job["offset"] > limit for job in command("query-block-jobs")):
            command("block-job-cancel", device="j", force=True)
            wait_for("BLOCK_JOB_CANCELLED")
            sys.exit(4)
        time.sleep(0.1)


events = []
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
# Not one file for both: a write to it drops what was read ahead, an event perhaps.
answers, requests = s.makefile("r"), s.makefile("w")
answers.readline()
command("qmp_capabilities")
command("blockdev-mirror", **{"job-id": "j", "device": "source",
                              "target": "copy", "sync": "full",
                              "copy-mode": sys.argv[2]})
if len(sys.argv) > 3:
    wait_until_ready(int(sys.argv[3]))
wait_for("BLOCK_JOB_READY")
asked = time.time()
command("job-complete", id="j")
wait_for("BLOCK_JOB_COMPLETED")
print(asked, time.time())
