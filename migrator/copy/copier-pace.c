/* SPDX-License-Identifier: BSD-3-Clause */
/* How much of a copy may be in flight: what policy/pace.c chooses among, for
 * the reads and for the writes, and what follows from its choice.
 */

#include "copy/copier-internal.h"
#include "nbd-limits.h"

/* Half of what nbdkit carries out at once: the fewer answers are on their way
 * when a client dies, the less likely nbdkit before 1.34 ends with it
 * (copier-run.c).
 */
#define DEPTH_OF_SHARED_READS 8

/* Measured: longer requests are slower where both are near, since they do not
 * fit a processor's cache.  What waits for a long line does not either, and of
 * longer ones there are fewer to be woken for, which is dearer by TCP.
 */
#define REQUEST_BYTES (256 * 1024)
#define REQUEST_BYTES_TCP (512 * 1024)
#define REQUEST_BYTES_FAR (1024 * 1024)
#define REQUEST_BYTES_MAX (2 * 1024 * 1024)
#define FAR_US 2000 /* a round trip */

static uint64_t
whole_blocks (const struct copier *c, uint64_t bytes)
{
  return bytes < c->grain ? c->grain : bytes / c->grain * c->grain;
}

/* What is compared is whole chunks, what is copied is whole units for zeroes
 * and data; a request may be shorter than either, but begins and ends at a
 * block.
 */
void
copier_set_lengths (struct copier *c)
{
  const uint64_t from = pace_limits (&c->from)->request_bytes;
  const uint64_t to = pace_limits (&c->to)->request_bytes;
  const uint64_t most = from > to ? from : to;

  c->compare_bytes = round_up (most, c->options.chunk_bytes);
  c->copy_bytes = round_up (most, c->zero_unit);
  c->read_bytes = whole_blocks (c, from);
  c->write_bytes = whole_blocks (c, to);
}

/* What the server takes, and what was asked for; the rest is found. */
static struct pace_options
pace_options (const struct copier *c, const struct endpoint *e)
{
  const struct copier_options *o = &c->options;
  const uint64_t asked = o->request_bytes;

  return (struct pace_options){
    .connections = e->nr_connections ? e->nr_connections : 1,
    .request_bytes = asked ? asked : REQUEST_BYTES,
    .request_bytes_max = asked ? asked : REQUEST_BYTES_MAX,
    .bytes_max = o->in_flight_bytes,
    .all_connections = o->all_connections,
  };
}

/* Where the answers carry no data several may be in flight on a connection, so
 * one is enough, and others are free for questions.
 */
void
copier_set_source_pace (struct copier *c)
{
  struct pace_options p = pace_options (c, c->source);

  p.depth_max = c->shared ? DEPTH_OF_SHARED_READS : DEPTH_OF_READS;
  if (c->shared && !p.all_connections)
    p.connections = 1;
  pace_init (&c->from, &p);
}

static bool
is_by_unix_socket (const struct endpoint *e)
{
  return e->nr_connections == 0 || endpoint_is_unix (e);
}

void
copier_set_paces (struct copier *c)
{
  const struct copier_options *o = &c->options;
  struct pace_options p = pace_options (c, c->destination);

  copier_set_source_pace (c);
  p.depth_max = o->depth ? o->depth : NBD_DEPTH_MAX;
  p.whole_depth = o->depth != 0;
  p.distance_us = endpoint_distance_us (c->destination);
  if (!o->request_bytes && p.distance_us >= FAR_US)
    p.request_bytes = REQUEST_BYTES_FAR;
  else if (!o->request_bytes && !is_by_unix_socket (c->destination))
    p.request_bytes = REQUEST_BYTES_TCP;
  pace_init (&c->to, &p);
  copier_set_lengths (c);
}

/* As many as may be are in flight. */
bool
copier_is_full (const struct endpoint *e, const struct pace *p)
{
  const struct pace_limits *l = pace_limits (p);

  return endpoint_in_flight (e) >= l->connections * l->depth;
}

void
copier_begin_pass (struct copier *c)
{
  fastest_begin_pass (&c->writes);
}

uint64_t
copier_write_us (const struct copier *c)
{
  return fastest_us (&c->writes);
}

void
copier_get_limits (const struct copier *c, struct pace_limits *from,
                   struct pace_limits *to)
{
  *from = *pace_limits (&c->from);
  *to = *pace_limits (&c->to);
}
