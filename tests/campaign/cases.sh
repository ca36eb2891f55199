# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034
#
# What the campaign does: "PHASE VICTIM FAULT".  So many rounds as there are cases begin
# with each once (53 has no divisor in common with their number), in an order in which
# a few rounds see many phases.

cases=()
for phase in bulk rounds mirror pause commit; do
  for what in 'guest kill' 'guest stop' 'migrator kill' 'migrator stop' 'migrator term' \
      'proxy kill' 'proxy term' 'proxy stop' 'destination kill' 'destination stop' \
      'destination cut' 'destination enospc' 'destination eio' 'both kill'; do
    cases+=("$phase $what")
  done
done
for phase in bulk rounds mirror pause; do
  cases+=("$phase guest eio" "$phase proxy eio")
done
cases+=('commit proxy enospc')
after_pivot=() # that one round can do after another
for what in 'guest kill' 'guest stop' 'proxy kill' 'proxy term' 'proxy stop' \
    'destination kill' 'destination stop' 'both kill'; do
  after_pivot+=("relay $what")
done
for what in 'guest kill' 'proxy kill' 'proxy term'; do
  after_pivot+=("away $what")
done
again=() # that one round can do after another, until the disks have moved
for phase in bulk rounds pause; do
  for what in 'guest kill' 'migrator kill' 'migrator term' 'proxy kill' 'proxy term' \
      'destination kill' 'both kill'; do
    again+=("$phase $what")
  done
done
cases+=("${after_pivot[@]}" 'relay destination cut' 'relay destination enospc'
        'relay destination eio')

# ONLY=REGEX: some of them.
if [ -n "${ONLY:-}" ]; then
  mapfile -t cases < <(printf '%s\n' "${cases[@]}" | grep -E -- "$ONLY")
  mapfile -t after_pivot < <(printf '%s\n' "${after_pivot[@]}" | grep -E -- "$ONLY")
  mapfile -t again < <(printf '%s\n' "${again[@]}" | grep -E -- "$ONLY")
fi
