# SPDX-License-Identifier: BSD-3-Clause
"""Which disks are moved together.

All hosts work through the same list of waves, so a limit that several of them
share, that of a link, holds without anything that they would have to lock.  A
disk is in the first wave that has room for it on its host and on its link.
"""

import json

from ansible.errors import AnsibleFilterError


def at_least_one(what, limit):
    try:
        if int(limit) >= 1:
            return int(limit)
    except (TypeError, ValueError):
        pass
    raise AnsibleFilterError("%s: %r disks at a time move none" % (what, limit))


def has_room(wave, entry, per_host, links):
    """A link that is not named in evacuate_links has no limit."""
    on_host = sum(d["host"] == entry["host"] for d in wave)
    on_link = sum(d["link"] == entry["link"] for d in wave)
    return on_host < per_host and on_link < links.get(entry["link"], on_link + 1)


def waves(disks, per_host, links):
    """Of a list of disks for each host: a list of waves, which are lists of
    {host, link, name}."""
    result = []
    per_host = at_least_one("evacuate_disks_per_host", per_host)
    links = {name: at_least_one("evacuate_links: %s" % name, links[name])
             for name in links}
    for host in sorted(disks):
        for disk in disks[host]:
            entry = {"host": host, "link": disk.get("link"),
                     "name": disk["name"]}
            for wave in result:
                if has_room(wave, entry, per_host, links):
                    wave.append(entry)
                    break
            else:
                result.append([entry])
    return result


def place_of(answer):
    """Where a disk is by "nbdmigrate status --json"; None: it did not say."""
    try:
        status = json.loads(answer.get("stdout") or "")
        return status["place"] if status["owner"] == "destination" else ""
    except (ValueError, KeyError, TypeError):
        return None


def is_there(answer):
    return place_of(answer) == answer["item"]["destination"]


def todo(answers):
    """The disks that are to be moved, of what the proxies answered.  By their names
    they are told apart from here on."""
    names = [a["item"]["name"] for a in answers]
    for name in names:
        if names.count(name) > 1:
            raise AnsibleFilterError("evacuate_disks: two are called %r" % name)
    return [a["item"] for a in answers
            if place_of(a) is not None and not is_there(a)]


def known(answers):
    """What became of the others, by name."""
    results = {}
    for a in answers:
        if is_there(a):
            results[a["item"]["name"]] = {
                "moved": True, "exit_status": 0,
                "message": "it was at its destination before"}
        elif place_of(a) is None:
            results[a["item"]["name"]] = outcome(a)
    return results


def last_event(text, name):
    """Of nbdmigrate --json; an empty dict if there is none."""
    found = {}
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == name:
            found = event
    return found


def outcome(job, check=False):
    """What became of a disk, by the end of its nbdmigrate; with --check none is
    moved."""
    said = [line for line in (job.get("stderr") or "").splitlines() if line]
    completed = last_event(job.get("stdout") or "", "completed")
    result = {
        "moved": job.get("rc") == 0 and not check,
        "exit_status": job.get("rc"),
        "message": said[-1] if said else job.get("msg", ""),
    }
    for key in ("pause_ms", "copied_bytes", "duration_ms"):
        if key in completed:
            result[key] = completed[key]
    if job.get("rc") != 0:
        result["errors"] = said
    return result


def outcomes(jobs, check):
    """By name, of the async_status of each."""
    return {j["item"]["item"]["name"]: outcome(j, check) for j in jobs}


def failures(results):
    """What is to be told of each disk that was not moved: its last lines, of which
    the last one only says where it is."""
    return ["%s: %s" % (name, " ".join(result.get("errors", [])[-3:])
                        or result["message"])
            for name, result in results.items() if result["exit_status"] != 0]


def of_host(disks, wave, host):
    """The disks of one host in a wave."""
    names = [d["name"] for d in wave if d["host"] == host]
    return [d for d in disks if d["name"] in names]


class FilterModule:
    def filters(self):
        return {
            "evacuate_todo": todo,
            "evacuate_known": known,
            "evacuate_waves": waves,
            "evacuate_of_host": of_host,
            "evacuate_outcomes": outcomes,
            "evacuate_failures": failures,
        }
