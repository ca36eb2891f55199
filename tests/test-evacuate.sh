#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# The Ansible role of examples/evacuate: three hosts with sshd, one of whose
# disks has no destination yet.  The others are moved nevertheless, and a second
# run moves what is left and nothing else.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy jq ansible-playbook
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/sshd.sh
source "$SRCDIR/tests/sshd.sh"

role=$SRCDIR/examples/evacuate/roles/evacuate

echo "== disks that are moved together"
cat > "$tmp/waves.py" <<'END'
import collections
import random
import sys

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import evacuate

seed = int(sys.argv[2])
rand = random.Random(seed)
for i in range(500):
    links = {"a": rand.randint(1, 4), "b": rand.randint(1, 4)}
    hosts = {"h%d" % h: [{"name": "d%d" % d,
                          "link": rand.choice(["a", "b", "c", None])}
                         for d in range(rand.randint(0, 9))]
             for h in range(rand.randint(1, 5))}
    per_host = rand.randint(1, 4)
    result = evacuate.waves(hosts, per_host, links)
    seen = [(e["host"], e["name"]) for w in result for e in w]
    assert len(seen) == len(set(seen)) == sum(map(len, hosts.values()))
    for wave in result:
        assert wave
        by_host = collections.Counter(e["host"] for e in wave)
        by_link = collections.Counter(e["link"] for e in wave)
        assert max(by_host.values()) <= per_host
        assert all(by_link[name] <= links[name] for name in links)
for wrong in ({"per_host": 0, "links": {}}, {"per_host": 1, "links": {"a": 0}}):
    try:
        evacuate.waves({"h": [{"name": "d", "link": "a"}]}, **wrong)
    except evacuate.AnsibleFilterError:
        continue
    raise AssertionError("%s was taken" % wrong)
try:
    evacuate.todo([{"item": {"name": "d"}}] * 2)
except evacuate.AnsibleFilterError:
    sys.exit()
raise AssertionError("two disks of one name were taken")
END
/usr/bin/python3 -B "$tmp/waves.py" "$role/filter_plugins" "$seed" ||
  fail "the waves are wrong"

echo "== three hosts"
add_host there
for host in host1 host2 host3; do
  add_host "$host"
  add_sshd "$host"
done
declare -A host_of=([a]=host1 [b]=host1 [c]=host2 [d]=host3)
port=10001
disks=([1]='' [2]='' [3]='')
for disk in a b c d; do
  host=${host_of[$disk]}
  truncate -s 4M "$tmp/$disk.img" "$tmp/$disk-there.img"
  in_host "$host" start_nbdkit "base-$disk" file "$tmp/$disk.img"
  head -c 1M /dev/urandom | nbdcopy - "$(uri "base-$disk")"
  end_bg "base-$disk"
  [ "$disk" = d ] ||
    at_port there $port start_nbdkit "$disk-there" file "$tmp/$disk-there.img"
  in_host "$host" start_proxy "$disk" file "$tmp/$disk.img"
  disks[${host#host}]+="
        - name: $disk
          source: $(uri "$disk")
          destination: nbd://${addresses[there]}:$port
          link: rack"
  port=$((port + 1))
done

{
  echo "evacuated:
  vars:
    ansible_python_interpreter: /usr/bin/python3
    ansible_ssh_private_key_file: $tmp/key
    ansible_ssh_pipelining: true
    ansible_ssh_common_args: >-
      -o UserKnownHostsFile=$tmp/known_hosts -o ControlPath=$tmp/%C
    ansible_remote_tmp: $tmp/ansible
    ansible_async_dir: $tmp/ansible-async
    ansible_user: root
    evacuate_nbdmigrate: $nbdmigrate
    evacuate_ask_seconds: 1
    evacuate_links: {rack: 3}
  hosts:"
  for i in 1 2 3; do
    echo "    host$i:
      ansible_host: ${addresses[host$i]}
      evacuate_disks:${disks[$i]}"
  done
} > "$tmp/inventory.yml"

# With what became of each disk, of the hosts that did not fail.
cat > "$tmp/evacuate.yml" <<END
- ansible.builtin.import_playbook: $SRCDIR/examples/evacuate/evacuate.yml
- hosts: evacuated
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{ evacuate_results | to_json }}"
        dest: $tmp/results-{{ inventory_hostname }}
      check_mode: false
END

evacuate ()
{
  local status=0

  in_host there env LC_ALL=C.UTF-8 ANSIBLE_HOME="$tmp/ansible-home" \
    ANSIBLE_LOCAL_TEMP="$tmp/ansible-local" ANSIBLE_NOCOLOR=1 \
    ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3 PYTHONDONTWRITEBYTECODE=1 \
    ansible-playbook -i "$tmp/inventory.yml" "$tmp/evacuate.yml" "$@" \
    > "$tmp/ansible.log" 2>&1 < /dev/null || status=$?
  return $status
}

moved ()
{
  cmp -n 1M "$tmp/$1.img" "$tmp/$1-there.img" || fail "$1 was not copied"
  [ "$("$nbdmigrate" status --json "$(uri "$1")" | jq -r .owner)" = \
    destination ] || fail "$1 was not moved"
}

result ()
{
  jq -r ".$2.$3" "$tmp/results-${host_of[$2]}" > "$tmp/result"
  [ "$(cat "$tmp/result")" = "$1" ] ||
    fail "$2 has $3: $(cat "$tmp/result")"
}

echo "== what would be done"
! evacuate --check || fail "check mode passed over what is not there"
grep -q 'host1 .*failed=0' "$tmp/ansible.log" || fail "host1 failed"
grep -q 'host3 .*failed=1' "$tmp/ansible.log" || fail "host3 did not fail"
result false a moved
result 0 a exit_status
grep -q 'item=a' "$tmp/ansible.log" || fail "a was not looked at"
for disk in a b c d; do
  "$nbdmigrate" status --json "$(uri $disk)" |
    jq -e '.owner == "source" and .last_end == "none"' > "$tmp/answer" ||
    fail "$disk was touched"
done

echo "== three of four"
! evacuate -v || fail "a disk without a destination was moved"
for disk in a b c; do
  moved $disk
  result true $disk moved
  result 1048576 $disk copied_bytes
done
grep -q 'host1 .*failed=0' "$tmp/ansible.log" || fail "host1 failed"
grep -q 'host3 .*failed=1' "$tmp/ansible.log" || fail "host3 did not fail"
grep -q 'd: nbdmigrate: connecting to the destination .*authoritative' "$tmp/ansible.log" ||
  fail "it is not said what became of d, and why"
[ "$("$nbdmigrate" status --json "$(uri d)" | jq -r .owner)" = source ] ||
  fail "d is elsewhere"

echo "== the fourth"
at_port there $((port - 1)) start_nbdkit d-there file "$tmp/d-there.img"
evacuate || fail "the second run failed"
moved d
result 1048576 d copied_bytes
for disk in a b c; do
  result "it was at its destination before" $disk message
done
end_bg d # nbdkit waits for its clients
