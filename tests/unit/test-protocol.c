/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to and from JSON, also when there is no memory. */

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cleanup.h"
#include "protocol.h"
#include "unit.h"

static void
assert_json (const json_t *json, const char *expected)
{
  CLEANUP_FREE char *text = json_dumps (json, JSON_COMPACT | JSON_SORT_KEYS);

  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT_STRING_EQUAL (text, expected);
  if (strcmp (text, expected) != 0)
    printf ("(%s) ", text);
}

/* ---- Messages ---------------------------------------------------------- */

static void
test_command (void)
{
  CLEANUP_JSON json_t *arguments = json_pack ("{s:i}", "cursor", 5);
  CLEANUP_JSON json_t *with =
    protocol_command ("take", json_incref (arguments));
  CLEANUP_JSON json_t *without = protocol_command ("status", json_object ());

  assert_json (with, "{\"arguments\":{\"cursor\":5},\"execute\":\"take\"}");
  assert_json (without, "{\"arguments\":{},\"execute\":\"status\"}");
  CU_ASSERT_EQUAL (arguments->refcount, 2); /* stolen, not copied */
}

/* What json_pack returns then: the message is not one without arguments. */
static void
test_no_contents (void)
{
  errno = 0;
  CU_ASSERT_PTR_NULL (protocol_command ("lost", NULL));
  CU_ASSERT_EQUAL (errno, ENOMEM);
  errno = 0;
  CU_ASSERT_PTR_NULL (protocol_return (NULL));
  CU_ASSERT_EQUAL (errno, ENOMEM);
}

static void
test_return (void)
{
  CLEANUP_JSON json_t *value = json_pack ("{s:b}", "resumed", 1);
  CLEANUP_JSON json_t *with = protocol_return (json_incref (value));
  CLEANUP_JSON json_t *without = protocol_return (json_object ());

  assert_json (with, "{\"return\":{\"resumed\":true}}");
  assert_json (without, "{\"return\":{}}");
  CU_ASSERT_EQUAL (value->refcount, 2);
}

static void
assert_desc (json_t *error, const char *expected)
{
  const json_t *members = json_object_get (error, "error");
  const json_t *desc = json_object_get (members, "desc");

  CU_ASSERT_PTR_NOT_NULL_FATAL (desc);
  CU_ASSERT_STRING_EQUAL (json_string_value (desc), expected);
  json_decref (error);
}

static void
test_error (void)
{
  CLEANUP_JSON json_t *error =
    protocol_error ("GateBusy", "%s is %d %% shut", "the gate", 100);

  assert_json (error, "{\"error\":{\"class\":\"GateBusy\","
                      "\"desc\":\"the gate is 100 % shut\"}}");
  assert_desc (protocol_error ("Failed", "%s", ""), "");
  assert_desc (protocol_error ("Failed", "a\nb"), "a\nb");
  assert_desc (protocol_error ("Failed", "%s", "\xc3\xa4"), "\xc3\xa4");
}

/* File names need not be UTF-8; the error must be told all the same. */
static void
test_error_of_any_bytes (void)
{
  assert_desc (protocol_error ("Failed", "%s", "/a\xff/b"), "/a?/b");
  assert_desc (protocol_error ("Failed", "%s", "\xc3"), "?");

  CLEANUP_JSON json_t *string = protocol_string ("/a\xff/b");
  CU_ASSERT_STRING_EQUAL (json_string_value (string), "/a?/b");
}

static void
test_long_error (void)
{
  char text[5000], expected[2048];

  memset (text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  memcpy (expected, text, sizeof expected);
  expected[2047] = '\0';
  assert_desc (protocol_error ("Failed", "%s", text), expected);

  /* The cut goes through a character of two bytes. */
  memcpy (text + 2046, "\xc3\xa4", 2);
  expected[2046] = '?';
  assert_desc (protocol_error ("Failed", "%s", text), expected);
}

/* ---- Extents ----------------------------------------------------------- */

static void
test_extents (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  CLEANUP_JSON json_t *none = protocol_extents (&e, true);

  assert_json (none, "[]");
  CU_ASSERT_EQUAL_FATAL (extents_append (&e, 0, 512, false), 0);
  CU_ASSERT_EQUAL_FATAL (extents_append (&e, 4096, 1, true), 0);
  CU_ASSERT_EQUAL_FATAL (extents_append (&e, INT64_MAX, 1, false), 0);

  CLEANUP_JSON json_t *pairs = protocol_extents (&e, false);
  CLEANUP_JSON json_t *triples = protocol_extents (&e, true);

  assert_json (pairs, "[[0,512],[4096,1],[9223372036854775807,1]]");
  assert_json (triples, "[[0,512,0],[4096,1,1],[9223372036854775807,1,0]]");
}

/* The extents in the text, appended to e.  Returns what was wrong, or NULL. */
static const char *
parse (const char *text, struct extents *e)
{
  CLEANUP_JSON json_t *json = json_loads (text, JSON_DECODE_ANY, NULL);
  const char *why = "not set";

  CU_ASSERT_PTR_NOT_NULL_FATAL (json);

  const int r = protocol_parse_extents (json, e, &why);

  CU_ASSERT_EQUAL (r, why ? -1 : 0);
  return why;
}

static void
test_parse (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  CU_ASSERT_PTR_NULL (parse ("[]", &e));
  CU_ASSERT_EQUAL (e.n, 0);
  CU_ASSERT_PTR_NULL (parse ("[[0,1],[5,7,1],[100,1,0]]", &e));
  CU_ASSERT_PTR_NULL (parse ("[[9223372036854775807,1]]", &e)); /* appended */
  CU_ASSERT_EQUAL_FATAL (e.n, 4);
  CU_ASSERT_EQUAL (e.v[0].offset, 0);
  CU_ASSERT_EQUAL (e.v[0].length, 1);
  CU_ASSERT_FALSE (e.v[0].touched);
  CU_ASSERT_EQUAL (e.v[1].offset, 5);
  CU_ASSERT_EQUAL (e.v[1].length, 7);
  CU_ASSERT_TRUE (e.v[1].touched);
  CU_ASSERT_FALSE (e.v[2].touched);
  CU_ASSERT_EQUAL (e.v[3].offset, INT64_MAX);
  CU_ASSERT_PTR_NULL (parse ("[[1,9223372036854775807]]", &e));
}

static void
test_parse_refused (void)
{
  static const struct {
    const char *text;
    const char *why; /* a word of the sentence */
  } table[] = {
    { "null", "array" },
    { "{}", "array" },
    { "5", "array" },
    { "\"[[0,1]]\"", "array" },
    { "[5]", "[offset" },
    { "[[]]", "[offset" },
    { "[[1]]", "[offset" },
    { "[[1,2,0,0]]", "[offset" },
    { "[{\"0\":1,\"1\":2}]", "[offset" },
    { "[[0,1],null]", "[offset" },
    { "[[-1,1]]", "offset" },
    { "[[0.0,1]]", "offset" },
    { "[[\"0\",1]]", "offset" },
    { "[[null,1]]", "offset" },
    { "[[0,-1]]", "length" },
    { "[[0,1e3]]", "length" },
    { "[[0,true]]", "length" },
    { "[[0,0]]", "is 0" },
    { "[[9223372036854775807,2]]", "2^63" },
    { "[[9223372036854775807,9223372036854775807]]", "2^63" },
    { "[[2,9223372036854775807]]", "2^63" },
    { "[[0,1,2]]", "third" },
    { "[[0,1,-1]]", "third" },
    { "[[0,1,true]]", "third" },
    { "[[0,1,null]]", "third" },
  };

  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
    const char *why = parse (table[i].text, &e);

    CU_ASSERT_PTR_NOT_NULL_FATAL (why);
    CU_ASSERT_PTR_NOT_NULL (strstr (why, table[i].why));
    if (strstr (why, table[i].why) == NULL)
      printf ("(%s: %s) ", table[i].text, why);
  }
}

static void
test_parse_nothing (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  const char *why = NULL;

  CU_ASSERT_EQUAL (protocol_parse_extents (NULL, &e, &why), -1);
  CU_ASSERT_PTR_NOT_NULL (why);
}

/* The most that fits into one line's limit, there and back, and one more. */
static void
test_most_extents (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY, back = EXTENTS_EMPTY;
  const char *why = NULL;

  for (uint64_t i = 0; i < PROTOCOL_EXTENTS_MAX; i++)
    CU_ASSERT_EQUAL_FATAL (extents_append (&e, i * 10, 5, i % 3 == 0), 0);

  CLEANUP_JSON json_t *json = protocol_extents (&e, true);

  CU_ASSERT_EQUAL (protocol_parse_extents (json, &back, &why), 0);
  CU_ASSERT_EQUAL_FATAL (back.n, e.n);
  for (size_t i = 0; i < e.n; i++)
    if (back.v[i].offset != e.v[i].offset ||
        back.v[i].length != e.v[i].length ||
        back.v[i].touched != e.v[i].touched)
      CU_FAIL ("an extent changed");

  json_array_append_new (json, json_pack ("[i,i]", 0, 1));
  CU_ASSERT_EQUAL (protocol_parse_extents (json, &back, &why), -1);
  CU_ASSERT_PTR_NOT_NULL_FATAL (why);
  CU_ASSERT_PTR_NOT_NULL (strstr (why, "too many"));
  CU_ASSERT_EQUAL (back.n, e.n); /* not even begun */
}

/* The largest message there can be fits into a line. */
static void
test_extents_fit (void)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;

  for (uint64_t i = 0; i < PROTOCOL_EXTENTS_MAX; i++)
    CU_ASSERT_EQUAL_FATAL (
      extents_append (&e, INT64_MAX - i * 2, INT64_MAX, true), 0);

  CLEANUP_JSON json_t *json = protocol_extents (&e, true);
  CLEANUP_FREE char *text = json_dumps (json, JSON_COMPACT);

  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  CU_ASSERT (strlen (text) < PROTOCOL_LINE_MAX - 1000);
}

/* ---- Numbers ----------------------------------------------------------- */

static int
get (const char *text, uint64_t *value)
{
  CLEANUP_JSON json_t *json = json_loads (text, 0, NULL);

  CU_ASSERT_PTR_NOT_NULL_FATAL (json);
  return protocol_get_u64 (json, "n", value);
}

static void
test_get_u64 (void)
{
  static const char *const bad[] = {
    "{\"n\":-1}",   "{\"n\":1.0}", "{\"n\":\"1\"}", "{\"n\":null}",
    "{\"n\":true}", "{\"n\":[1]}", "{\"n\":{}}",    NULL,
  };
  uint64_t value = 4711;

  CU_ASSERT_EQUAL (get ("{}", &value), 0);
  CU_ASSERT_EQUAL (get ("{\"N\":1,\"nn\":2}", &value), 0);
  CU_ASSERT_EQUAL (get ("[1]", &value), 0);
  CU_ASSERT_EQUAL (protocol_get_u64 (NULL, "n", &value), 0);
  for (size_t i = 0; bad[i]; i++)
    CU_ASSERT_EQUAL (get (bad[i], &value), -1);
  CU_ASSERT_EQUAL (value, 4711);
  CU_ASSERT_EQUAL (get ("{\"n\":0}", &value), 1);
  CU_ASSERT_EQUAL (value, 0);
  CU_ASSERT_EQUAL (get ("{\"n\":9223372036854775807}", &value), 1);
  CU_ASSERT_EQUAL (value, INT64_MAX);
}

/* ---- No memory --------------------------------------------------------- */

static unsigned allocations_left;

static void *
limited_malloc (size_t size)
{
  if (allocations_left == 0) {
    errno = ENOMEM;
    return NULL;
  }
  allocations_left--;
  return malloc (size);
}

typedef json_t *make_function (void);

static json_t *
make_command (void)
{
  return protocol_command ("take", json_pack ("{s:i}", "cursor", 5));
}

static json_t *
make_return (void)
{
  return protocol_return (json_object ());
}

static json_t *
make_error (void)
{
  return protocol_error ("Failed", "no %s", "memory");
}

static json_t *
make_extents (void)
{
  struct extent v[] = { { 0, 1, false }, { 5, 1, true } };

  return protocol_extents (&(struct extents){ v, 2, 2 }, true);
}

/* With no, one, two... allocations until it succeeds; a sanitizer sees what
 * leaks.
 */
static void
assert_survives (make_function *make)
{
  json_t *json = NULL;
  unsigned n;

  for (n = 0; n < 1000 && json == NULL; n++) {
    allocations_left = n;
    errno = 0;
    json_set_alloc_funcs (limited_malloc, free);
    json = make ();
    json_set_alloc_funcs (malloc, free);
    if (json == NULL)
      CU_ASSERT_EQUAL (errno, ENOMEM);
  }
  CU_ASSERT_PTR_NOT_NULL (json);
  CU_ASSERT (n > 2);
  json_decref (json);
}

static void
test_no_memory (void)
{
  assert_survives (make_command);
  assert_survives (make_return);
  assert_survives (make_error);
  assert_survives (make_extents);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "commands", test_command },
    { "messages without memory", test_no_contents },
    { "returns", test_return },
    { "errors", test_error },
    { "errors with any bytes", test_error_of_any_bytes },
    { "long errors", test_long_error },
    { "extents", test_extents },
    { "extents read", test_parse },
    { "extents refused", test_parse_refused },
    { "extents that are not there", test_parse_nothing },
    { "as many extents as allowed, and one more", test_most_extents },
    { "as many extents as allowed fit into a line", test_extents_fit },
    { "numbers", test_get_u64 },
    { "no memory", test_no_memory },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("protocol", tests);
}
