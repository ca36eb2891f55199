# SPDX-License-Identifier: BSD-3-Clause
#
# profile.py HERTZ NAME=PID...: of call chains on standard input ("perf script
# -F comm,pid,ip,sym,dso"), sampled so often a second, a table for each process: its
# CPU seconds by system call, and in them by what is done.  NAME= without a
# number is a program, whatever its processes are.

import collections
import re
import sys

# What is done, by names anywhere in the chain, innermost first; the first that
# fits counts.
KINDS = [
    ("copying bytes", r"_copy_(to|from)_iter|copy_folio_from_iter|copy_user|"
                      r"copy_page_(to|from)_iter|rep_movs|memcpy|memmove"),
    ("looking for holes", r"mapping_seek_hole_data"),
    ("waking threads", r"try_to_wake_up|__wake_up|wake_up_q|sock_def_readable|"
                       r"unix_write_space|sock_def_write_space"),
    ("going to sleep", r"^schedule|__schedule|do_wait|futex_wait|"
                       r"schedule_timeout"),
    ("memory for pages", r"alloc_pages|alloc_folio|clear_page|folio_zero|"
                         r"memcg|folio_add_lru|shmem_get_folio|"
                         r"shmem_add_to_page_cache"),
    ("socket buffers", r"skb|sock_wfree|kfree|kmalloc|slab"),
    ("waiting for a lock", r"rwsem|mutex|spin"),
    ("filling memory", r"memset|clear_"),
]


def call_of(chain):
    for name in chain:
        found = re.match(r"(?:__(?:x64|arm64|se)_sys_|ksys_)(\w+)", name)
        if found:
            return found.group(1)
    if any(re.search(r"exc_page_fault|do_user_addr_fault", n) for n in chain):
        return "(page fault)"
    if any(re.search(r"sysvec|irq|softirq", n) for n in chain):
        return "(interrupt)"
    return "(user)"


def kind_of(chain):
    if chain and re.search(r"lib(gnutls|nettle|hogweed)", chain[0]):
        return "ciphers"
    for kind, pattern in KINDS:
        if any(re.search(pattern, name) for name in chain):
            return kind
    return "other"


def samples(lines):
    """Yield (program, pid, chain), the innermost function first."""
    head, chain = None, []
    for line in lines:
        line = line.rstrip()
        if not line:
            if head:
                yield head[0], head[1], chain
            head, chain = None, []
        elif head is None:
            found = re.match(r"\s*(.*?)\s+(\d+)\s*$", line)
            head = (found.group(1), found.group(2)) if found else None
        else:
            chain.append(line.split(None, 1)[-1])
    if head:
        yield head[0], head[1], chain


def main():
    hertz = float(sys.argv[1])
    by_pid, by_name = {}, []
    for arg in sys.argv[2:]:
        name, pid = arg.split("=")
        if pid:
            by_pid[pid] = name
        else:
            by_name.append(name)
    tables = collections.defaultdict(collections.Counter)
    others = 0
    for program, pid, chain in samples(sys.stdin):
        process = by_pid.get(pid) or (program if program in by_name else None)
        if process:
            tables[process][call_of(chain), kind_of(chain)] += 1
        elif program != "swapper":
            others += 1
    everything = sum(sum(t.values()) for t in tables.values())
    for process, table in tables.items():
        total = sum(table.values())
        print(f"{process}: {total / hertz:.2f} CPU s, "
              f"{100 * total / everything:.0f} % of all")
        calls = collections.Counter()
        for (call, _), n in table.items():
            calls[call] += n
        for call, n in calls.most_common(9):
            kinds = sorted(((m, k) for (c, k), m in table.items() if c == call),
                           reverse=True)
            parts = ", ".join(f"{k} {100 * m / everything:.1f}"
                              for m, k in kinds[:4]
                              if m > everything / 500)
            print(f"  {100 * n / everything:5.1f} %  {call:14} {parts}")
    print(f"all of it: {everything / hertz:.2f} CPU s"
          f" (other processes meanwhile: {others / hertz:.2f})")


main()
