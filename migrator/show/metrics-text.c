/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "show/events.h"
#include "show/metrics-text.h"

struct text {
  FILE *fp;
  const char *source;
};

static void
put_label (FILE *fp, const char *value)
{
  for (; *value != '\0'; ++value)
    if (*value == '\n')
      fputs ("\\n", fp);
    else {
      if (*value == '"' || *value == '\\')
        fputc ('\\', fp);
      fputc (*value, fp);
    }
}

static void
put_head (const struct text *t, const char *name, const char *help)
{
  fprintf (t->fp,
           "# HELP nbdmigrate_%s %s\n"
           "# TYPE nbdmigrate_%s gauge\n",
           name, help, name);
}

/* 'more' are further labels, or "". */
static void
put_value (const struct text *t, const char *name, const char *more,
           double value)
{
  fprintf (t->fp, "nbdmigrate_%s{source=\"", name);
  put_label (t->fp, t->source);
  fprintf (t->fp, "\"%s} %.15g\n", more, value);
}

static void
put (const struct text *t, const char *name, const char *help, double value)
{
  put_head (t, name, help);
  put_value (t, name, "", value);
}

static void
put_bytes (const struct text *t, const char *name, const char *help,
           uint64_t value)
{
  put (t, name, help, (double)value);
}

/* Not at all if it is not known. */
static void
put_ms (const struct text *t, const char *name, const char *help, uint64_t ms)
{
  if (ms != SNAPSHOT_UNKNOWN)
    put (t, name, help, (double)ms / 1e3);
}

static void
put_phase (const struct text *t, const char *phase)
{
  static const char *const phases[] = {
    "connect",   "bulk",  "dirty", "verify", "late-writes",
    "reconnect", "ready", "final", "digest", "done",
  };
  char label[64];
  size_t i;

  put_head (t, "phase", "Which phase it is in: 1, and 0 for all others.");
  for (i = 0; i < sizeof phases / sizeof phases[0]; ++i) {
    snprintf (label, sizeof label, ",phase=\"%s\"", phases[i]);
    put_value (t, "phase", label, strcmp (phase, phases[i]) == 0);
  }
}

static void
put_latency (const struct text *t, const struct snapshot *s)
{
  static const char reads[] = ",operation=\"read\"",
                    writes[] = ",operation=\"write\"";
  const struct snapshot_latency *r = &s->guest_reads, *w = &s->guest_writes;

  put_head (t, "guest_latency_mean_seconds",
            "How long requests of the guest took of late, on average.");
  put_value (t, "guest_latency_mean_seconds", reads, (double)r->mean_us / 1e6);
  put_value (t, "guest_latency_mean_seconds", writes, (double)w->mean_us / 1e6);
  put_head (t, "guest_latency_most_seconds",
            "What 99 of 100 requests of the guest did not exceed of late.");
  put_value (t, "guest_latency_most_seconds", reads, (double)r->most_us / 1e6);
  put_value (t, "guest_latency_most_seconds", writes, (double)w->most_us / 1e6);
}

static void
put_speeds (const struct text *t, const struct snapshot *s)
{
  put_bytes (t, "copy_bytes_per_second", "How fast it copies of late.",
             s->bytes_per_second);
  put_bytes (t, "dirty_bytes_per_second",
             "How fast the guest makes the disks dirty of late.",
             s->dirty_bytes_per_second);
  put_bytes (t, "rate_limit_bytes_per_second",
             "The limit of --rate; 0 is none.", s->rate);
  put_bytes (t, "throttle_bytes_per_second",
             "What the guest may write; 0 is no limit.", s->throttle);
  put (t, "mirror_on", "Whether writes of the guest go to both sides.",
       s->mirror != NULL && strcmp (s->mirror, "on") == 0);
}

static void
put_progress (const struct text *t, const struct snapshot *s,
              const struct account *a)
{
  put (t, "disks", "How many disks it moves.", (double)s->nr_disks);
  put_bytes (t, "disk_bytes", "Size of all disks.", a->disk_bytes);
  put (t, "pass", "The present pass, or the last one.", s->pass);
  put_bytes (t, "copied_bytes", "What was copied in all passes.",
             s->copied_bytes);
  put_bytes (t, "remaining_bytes", "What is still to be copied.",
             s->remaining_bytes);
  put_ms (t, "pass_left_seconds", "How long the pass will still take.",
          s->eta_ms);
  put_ms (t, "predicted_pause_seconds", "How long the pause would be.",
          s->predicted_pause_ms);
  put_ms (t, "max_pause_seconds", "How long the pause may be.",
          s->max_pause_ms);
  put (t, "destinations_away", "Destinations that are lost at present.",
       s->nr_away);
  put (t, "losses", "How often a destination was lost.", a->losses);
}

static void
put_ending (const struct text *t, const struct account *a, int status)
{
  put (t, "end_time_seconds", "When it ended, since the epoch.", event_now ());
  put (t, "exit_status", "The exit status of nbdmigrate; 0 is done.", status);
  put (t, "pause_seconds", "How long the last pause was.", a->pause_ms / 1e3);
}

static void
put_all (const struct text *t, const struct snapshot *s,
         const struct account *a, int status, double begin_time)
{
  put (t, "running", "Whether it goes on.", status == -1);
  put (t, "start_time_seconds", "When it began, since the epoch.", begin_time);
  put (t, "update_time_seconds", "When this was written, since the epoch.",
       event_now ());
  put_phase (t, s->phase);
  put_progress (t, s, a);
  put_speeds (t, s);
  put_latency (t, s);
  if (status != -1)
    put_ending (t, a, status);
  fputs ("# EOF\n", t->fp);
}

char *
metrics_text (const struct snapshot *s, const struct account *a, int status,
              double begin_time)
{
  char *text = NULL;
  size_t size;
  struct text t = { .fp = open_memstream (&text, &size), .source = s->source };

  if (t.fp == NULL)
    return NULL;
  put_all (&t, s, a, status, begin_time);
  if (fclose (t.fp) == 0)
    return text;
  free (text);
  return NULL;
}
