#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# A sample of the campaign (tests/campaign/): as many rounds as begin within some
# seconds, or ROUNDS=N, with SIGKILL and SIGTERM in each phase where no clock has a say.

set -euo pipefail
SRCDIR=${SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
export ONLY=${ONLY:-'^(bulk|rounds|pause|commit|relay|away) .* (kill|term)$'}
[ -n "${ROUNDS:-}" ] || export DURATION=${DURATION:-20s}
exec "$SRCDIR/tests/campaign/run.sh"
