/* SPDX-License-Identifier: BSD-3-Clause */
/* What the destination must hold when it comes back. */

#include <string.h>

#include "relay/witness.h"
#include "unit.h"

static struct witnesses w;
static struct witness list[WITNESSES];
static uint8_t data[4096];
static uint64_t flushes;

static void
start (void)
{
  memset (&w, 0, sizeof w);
  memset (data, 7, sizeof data);
  flushes = 0;
}

static void
write_at (uint64_t offset, uint64_t length)
{
  witness_forget (&w, offset, length);
  witness_written (&w, data, offset, length);
}

static void
flush (void)
{
  witness_flush_begin (&w, ++flushes, false);
  witness_flush_end (&w, flushes);
}

static void
test_flushed (void)
{
  start ();
  write_at (4096, 1024);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  CU_ASSERT_EQUAL (list[0].offset, 4096);
  CU_ASSERT_EQUAL (list[0].length, WITNESS_BYTES);
  CU_ASSERT_EQUAL (list[0].data[511], 7);
}

/* What is written during a flush is not covered by it. */
static void
test_during_a_flush (void)
{
  start ();
  witness_flush_begin (&w, 1, false);
  write_at (0, 512);
  witness_flush_end (&w, 1);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  witness_flush_begin (&w, 2, false);
  witness_flush_begin (&w, 3, false);
  witness_flush_end (&w, 3);
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
}

static void
test_a_failed_flush (void)
{
  start ();
  write_at (0, 512);
  flush ();
  write_at (8192, 512);
  witness_flush_begin (&w, ++flushes, false);
  witness_flush_failed (&w);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  CU_ASSERT_EQUAL (list[0].offset, 0);
}

static void
test_overwritten (void)
{
  start ();
  write_at (1024, 512);
  flush ();
  witness_forget (&w, 0, 1024);
  witness_forget (&w, 1536, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  witness_forget (&w, 1535, 1);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
}

/* Zeroes prove nothing. */
static void
test_not_taken (void)
{
  start ();
  memset (data, 0, sizeof data);
  write_at (0, 512);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
}

/* Whatever the blocks of the server: those that hold it are read. */
static void
test_part_of_a_block (void)
{
  start ();
  write_at (100, 512);
  write_at (0, 100);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), 2);
  CU_ASSERT_EQUAL (list[0].offset, 100);
  CU_ASSERT_EQUAL (list[1].length, 100);
}

static void
test_many (void)
{
  start ();
  for (uint64_t i = 0; i < 1000; ++i) {
    write_at (i * 512, 512);
    flush ();
  }
  CU_ASSERT_EQUAL (witness_list (&w, list), WITNESSES);
  for (unsigned i = 0; i < WITNESSES; ++i)
    CU_ASSERT (list[i].offset > 100 * 512);
}

/* While a flush is under way, and also when many writes are answered at once:
 * what is taken proves nothing yet, what it would take the place of does.
 */
static void
test_not_given_away (void)
{
  start ();
  for (uint64_t i = 0; i < WITNESSES; ++i)
    write_at (i * 512, 512);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), WITNESSES);
  for (uint64_t round = 1; round <= 20; ++round) {
    for (uint64_t i = 0; i < 16; ++i)
      witness_forget (&w, (round * 16 + i) * 512, 512);
    for (uint64_t i = 0; i < 16; ++i)
      witness_written (&w, data, (round * 16 + i) * 512, 512);
    CU_ASSERT (witness_list (&w, list) >= (round == 1 ? WITNESSES - 1 : 12));
  }
  CU_ASSERT (witness_list (&w, list) < WITNESSES);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), WITNESSES);
}

static void
test_reads (void)
{
  start ();
  CU_ASSERT (witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  witness_read (&w, data, 0, 512); /* the same once more */
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  witness_trimmed (&w);
  CU_ASSERT (!witness_wants_reads (&w));
}

/* What can be read need not be durable. */
static void
test_reads_after_a_failure (void)
{
  start ();
  witness_read (&w, data, 0, 512);
  witness_flush_begin (&w, ++flushes, false);
  witness_flush_failed (&w);
  CU_ASSERT (!witness_wants_reads (&w));
  witness_read (&w, data, 4096, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  CU_ASSERT_EQUAL (list[0].offset, 0);

  start ();
  witness_write_failed (&w);
  CU_ASSERT (!witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  write_at (0, 512);
  flush ();
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
}

/* Others write there. */
static void
test_not_ours (void)
{
  uint64_t writes;

  start ();
  witness_read (&w, data, 0, 512);
  write_at (8192, 512);
  flush ();
  writes = w.writes;
  witness_owner (&w, false);
  CU_ASSERT_NOT_EQUAL (w.writes, writes); /* for reads under way */
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  CU_ASSERT (!witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  witness_owner (&w, true);
  CU_ASSERT (witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
}

/* Another process was here: only a flush that began when nothing of it could
 * land any more tells that what is read is durable.
 */
static void
test_inherited (void)
{
  start ();
  witness_inherit (&w);
  witness_flush_begin (&w, 1, true);
  CU_ASSERT_FALSE (witness_flush_end (&w, 1));
  witness_flush_begin (&w, 2, false);
  CU_ASSERT_FALSE (witness_flush_end (&w, 1));
  CU_ASSERT_FALSE (witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  witness_flush_begin (&w, 3, false);
  CU_ASSERT_TRUE (witness_flush_end (&w, 3));
  CU_ASSERT_TRUE (witness_wants_reads (&w));
  witness_read (&w, data, 0, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), 1);
  CU_ASSERT_FALSE (witness_flush_end (&w, 2));
}

/* A piece that is longer than any is none, nor is one without a place. */
static void
test_restored (void)
{
  start ();
  witness_restore (&w, data, 0, WITNESS_BYTES + 1);
  CU_ASSERT_EQUAL (witness_list (&w, list), 0);
  for (unsigned i = 0; i < WITNESSES + 1; ++i)
    witness_restore (&w, data, i * 4096, 512);
  CU_ASSERT_EQUAL (witness_list (&w, list), WITNESSES);
  CU_ASSERT_EQUAL (list[WITNESSES - 1].offset, (WITNESSES - 1) * 4096);
  witness_written (&w, data, 0, 0); /* nothing was written */
  CU_ASSERT_EQUAL (witness_list (&w, list), WITNESSES);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "what was flushed", test_flushed },
    { "written during a flush", test_during_a_flush },
    { "a flush that failed", test_a_failed_flush },
    { "overwritten", test_overwritten },
    { "what is not taken", test_not_taken },
    { "a part of a block", test_part_of_a_block },
    { "more than there is room for", test_many },
    { "what was flushed is not given away", test_not_given_away },
    { "what was read", test_reads },
    { "what was read after a failure", test_reads_after_a_failure },
    { "others write there", test_not_ours },
    { "another process was here", test_inherited },
    { "what an earlier one has left", test_restored },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("relay-witness", tests);
}
