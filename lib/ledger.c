/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ledger.h"

/* Nobody can take away what the other one reads. */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

_Static_assert(sizeof (struct ledger) % sizeof (int64_t) == 0,
               "lines are aligned");

struct ledger *
ledger_create (int *fd)
{
  struct ledger *l = MAP_FAILED;

  *fd = memfd_create ("nbdmigrate-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (*fd == -1)
    return NULL;
  if (ftruncate (*fd, sizeof *l) == 0 && fcntl (*fd, F_ADD_SEALS, SEALS) == 0)
    l = mmap (NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
  if (l != MAP_FAILED)
    return l;
  close (*fd);
  *fd = -1;
  return NULL;
}

bool
ledger_is (int fd)
{
  return fcntl (fd, F_GET_SEALS) != -1;
}

const struct ledger *
ledger_open (int fd)
{
  const int seals = fcntl (fd, F_GET_SEALS);
  struct stat st;
  void *l;

  if (seals == -1 || fstat (fd, &st) == -1)
    return NULL;
  if ((seals & F_SEAL_SHRINK) == 0 || st.st_size != sizeof (struct ledger)) {
    errno = EINVAL;
    return NULL;
  }
  l = mmap (NULL, sizeof (struct ledger), PROT_READ, MAP_SHARED, fd, 0);
  return l == MAP_FAILED ? NULL : l;
}

void
ledger_close (const struct ledger *l)
{
  if (l != NULL)
    munmap ((void *)l, sizeof *l);
}

struct ledger_line
ledger_read (const struct ledger_line *line)
{
  return (struct ledger_line){
    .since_us = __atomic_load_n (&line->since_us, __ATOMIC_ACQUIRE),
    .slowest_us = __atomic_load_n (&line->slowest_us, __ATOMIC_ACQUIRE),
    .requests = __atomic_load_n (&line->requests, __ATOMIC_ACQUIRE),
    .whole = __atomic_load_n (&line->whole, __ATOMIC_ACQUIRE),
    .framed = __atomic_load_n (&line->framed, __ATOMIC_ACQUIRE),
  };
}

void
ledger_write (struct ledger_line *line, const struct ledger_line *value)
{
  __atomic_store_n (&line->since_us, value->since_us, __ATOMIC_RELEASE);
  __atomic_store_n (&line->slowest_us, value->slowest_us, __ATOMIC_RELEASE);
  __atomic_store_n (&line->requests, value->requests, __ATOMIC_RELEASE);
  __atomic_store_n (&line->whole, value->whole, __ATOMIC_RELEASE);
  __atomic_store_n (&line->framed, value->framed, __ATOMIC_RELEASE);
}
