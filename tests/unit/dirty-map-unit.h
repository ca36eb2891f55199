/* SPDX-License-Identifier: BSD-3-Clause */
/* What the unit tests of the dirty map have in common: a map in a directory of
 * its own.
 */

#ifndef NBDMIGRATE_DIRTY_MAP_UNIT_H
#define NBDMIGRATE_DIRTY_MAP_UNIT_H

#include <assert.h>
#include <sys/stat.h>

#include "state/dirty-map.h"
#include "unit.h"

#define CHUNK UINT64_C (65536)

static inline struct dirty_map_header
header_of_disk (uint64_t id, uint64_t disk_bytes)
{
  return (struct dirty_map_header){
    .id = id,
    .state = DIRTY_MAP_IN_USE,
    .disk_bytes = disk_bytes,
    .chunk_bytes = CHUNK,
  };
}

/* unit_main in that directory, where the map is at 'path'; both are gone
 * afterwards.
 */
static inline int
main_in_directory (const char *name, CU_TestInfo *tests, const char *path)
{
  char dir[] = "/tmp/test-dirty-map-XXXXXX";
  int result;

  umask (077);
  assert (mkdtemp (dir) != NULL && chdir (dir) == 0);
  result = unit_main (name, tests);
  unlink (path);
  rmdir (dir);
  return result;
}

#endif /* NBDMIGRATE_DIRTY_MAP_UNIT_H */
