#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdkit: what a filter opens in a thread of its own has no export name for the plugin.
#
# Software:  nbdkit 1.48.1 (Debian unstable, of November 2026)
# Behaviour: nbdkit_next_context_open takes the export name.  Called by a filter in a
#            thread that serves a client it opens that export, also another one than the
#            client's.  Called in a thread that the filter has begun, with the same name,
#            a plugin that asks for it with nbdkit_export_name, as file does with dir=,
#            is told nothing ("no context in this thread"), and the export is not opened.
# Why it surprises: the name is an argument, the context belongs to no client in either
#            case, and nothing in the manual speaks of the thread.  With a plugin that has
#            one export only it works in any thread.
# What follows: a filter with work to do in the background opens what it needs for that in
#            its .open, or does without where a named export cannot be opened.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.48.1-1 nbdkit-plugin-dev=1.48.1-1

cat > "$tmp/opens.c" <<'END'
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <nbdkit-filter.h>

static nbdkit_backend *below;

static void
open_small (const char *where)
{
  nbdkit_next *next = nbdkit_next_context_open (below, 1, "small", 1);
  int64_t size = -1;

  if (next != NULL) {
    if (next->prepare (next) == 0)
      size = next->get_size (next);
    next->finalize (next);
    nbdkit_next_context_close (next);
  }
  fprintf (stderr, "seen %s: %s\n", where, size == 1 << 20 ? "opened" : "not opened");
}

static void *
of_its_own (void *unused)
{
  (void)unused;
  open_small ("own thread");
  return NULL;
}

static int
opens_after_fork (nbdkit_backend *backend)
{
  below = backend;
  return 0;
}

static void *
opens_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
            const char *name, int tls)
{
  pthread_t thread;

  (void)tls;
  open_small ("client's thread");
  if (pthread_create (&thread, NULL, of_its_own, NULL) == 0)
    pthread_join (thread, NULL);
  return next (context, readonly, name) == -1 ? NULL : NBDKIT_HANDLE_NOT_NEEDED;
}

static struct nbdkit_filter filter = {
  .name = "opens",
  .after_fork = opens_after_fork,
  .open = opens_open,
};

NBDKIT_REGISTER_FILTER (filter)
END
cc -shared -fPIC -I"$root/usr/include" "$tmp/opens.c" -o "$tmp/opens.so"

mkdir "$tmp/disks"
truncate -s 1M "$tmp/disks/small"
truncate -s 2M "$tmp/disks/large"
lib=$(echo "$root"/usr/lib/*/nbdkit)
start nbdkit -f -U "$tmp/socket" --filter="$tmp/opens.so" \
      "$lib/plugins/nbdkit-file-plugin.so" dir="$tmp/disks" 2> "$tmp/log"
until_socket "$tmp/socket"
client "$tmp/socket" <<'END'
import sys
from client import Client

Client(sys.argv[1], "large").disconnect()
END

seen "client's thread: opened; own thread: not opened; no context in this thread" \
  "$(sed -n 's/^seen //p' "$tmp/log" | paste -sd ';' | sed 's/;/; /g'); $(
     grep -o 'no context in this thread' "$tmp/log" | head -n 1)"
