/* SPDX-License-Identifier: BSD-3-Clause */
/* The limit of what guests may write, for as long as the session lives (R7). */

#include "call.h"
#include "protocol.h"

json_t *
command_throttle (struct call *call)
{
  uint64_t rate;

  if (call_u64 (call, "bytes_per_second", true, &rate) == -1)
    return NULL;
  throttle_set (&call->export->throttle, rate, PROTOCOL_SILENCE_MS);
  return json_object ();
}
