/* SPDX-License-Identifier: BSD-3-Clause */
/* Which URIs are NBD's, and paths in them made absolute: in a directory whose
 * name would end a parameter if it was copied as it is.
 */

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "unit.h"
#include "uri.h"

#define ODD_NAME "a b&c;d#e?f%2Fg+\xc3\xa4"
#define ODD_NAME_ENCODED "a%20b%26c%3Bd%23e%3Ff%252Fg%2B%C3%A4"

static char *start_directory;

static int
leave_directory (void)
{
  return chdir (start_directory);
}

static void
test_is_nbd (void)
{
  static const char *const yes[] = {
    "nbd://",
    "nbd://localhost",
    "nbds://[::1]:10810/export",
    "nbd+unix:///?socket=/run/sock",
    "nbds+unix:///x?socket=/run/sock",
    "nbd+vsock://2:10809/",
    "nbds+vsock://2/",
    NULL,
  };
  static const char *const no[] = {
    "",
    "nbd",
    "nbd:",
    "nbd:/",
    "nbd:localhost:10809",
    " nbd://localhost",
    "NBD://localhost",
    "nbd+unix:/?socket=x",
    "nbd+tcp://localhost",
    "nbd+ssh://localhost",
    "xnbd://localhost",
    "http://localhost",
    "/dev/nbd0",
    NULL,
  };

  for (size_t i = 0; yes[i]; i++)
    CU_ASSERT_TRUE (uri_is_nbd (yes[i]));
  for (size_t i = 0; no[i]; i++)
    CU_ASSERT_FALSE (uri_is_nbd (no[i]));
}

static void
test_wrong (void)
{
  static const char *const right[] = {
    "",
    "/dev/sda",
    "nbd://",
    "nbd://localhost",
    "nbd://localhost/x:0",
    "nbd://user:0@localhost/",
    "nbd://localhost:1/",
    "nbds://[::1]:65535?tls-psk-file=x:0",
    "nbd://[::1]/",
    "nbd://localhost:000010809/",
    "nbd+unix://0:0/?a=b&socket=x",
    "nbds+unix:///x?%73ocket=x",
    "nbd+vsock://2:99999/",
    "nbd://user:x@[fe80::1]:10809/",
    "nbd://localhost/%20%C3%A4::",
    "nbd+unix:///?socket=/a b&tls-psk-file=\xc3\xa4",
    "nbds://[::1]/?tls-certificates=/a{b}%",
    "http://localhost:0/",
    NULL,
  };
  static const char *const wrong[] = {
    "nbd://localhost:0",
    "nbd://localhost:00/",
    "nbd://localhost:65536/",
    "nbds://localhost:18446744073709562425#x",
    "nbd://[::1]:99999?x",
    "nbd+unix://",
    "nbd+unix:///?socket=",
    "nbds+unix:///socket=x",
    "nbd+unix:///?Socket=x",
    "NBD://localhost",
    "nbd+Unix:///?socket=x",
    "nbd+ssh://localhost",
    "nbds+ssh://localhost/x",
    "nbd://::1/",
    "nbd://::1:10809/",
    "nbds://u@fe80::1/x",
    "nbd://[::1/",
    "nbd://localhost/a b",
    "nbd://localhost/\xc3\xa4",
    "nbd://local host/",
    "nbd://[::1]/a[b]",
    "nbd://localhost/100%",
    "nbd://localhost/?x=a b",
    "nbd+unix:///a b?socket=x",
    "nbd+unix:///?socket=x&y=a b",
    "nbd+unix:///?socket=x#a b",
    NULL,
  };

  for (size_t i = 0; right[i]; i++)
    CU_ASSERT_PTR_NULL (uri_wrong (right[i]));
  for (size_t i = 0; wrong[i]; i++)
    CU_ASSERT_PTR_NOT_NULL (uri_wrong (wrong[i]));
}

static void
assert_absolute (const char *uri, const char *expected)
{
  CLEANUP_FREE char *result = uri_absolute (uri);

  CU_ASSERT_PTR_NOT_NULL_FATAL (result);
  CU_ASSERT_STRING_EQUAL (result, expected);
  if (strcmp (result, expected) != 0)
    printf ("(\"%s\": \"%s\") ", uri, result);
}

static void
test_unchanged (void)
{
  static const char *const uris[] = {
    "",
    "nbd://localhost",
    "nbd://localhost/a/relative/export",
    "nbd://localhost/?",
    "nbd://localhost/#socket=x",
    "nbd://localhost/#?socket=x",
    "nbd+unix:///?socket",
    "nbd+unix:///?socket=",
    "nbd+unix:///?socket=&x=y",
    "nbd+unix:///?socket=/run/a.sock",
    "nbd+unix:///?socket=%2frun/a.sock",
    "nbd+unix:///?socket=%2Frun/a.sock#socket=b",
    "nbd+unix:///?SOCKET=a",
    "nbd+unix:///?xsocket=a",
    "nbd+unix:///?socketx=a",
    "nbd+unix:///socket=a",
    "nbds://host/?tls-verify-peer=false&tls-hostname=a",
    "nbd+unix:///?&&;;&",
    NULL,
  };

  for (size_t i = 0; uris[i]; i++)
    assert_absolute (uris[i], uris[i]);
}

static void
test_absolute (void)
{
  CU_ASSERT_EQUAL_FATAL (chdir ("/usr"), 0);
  assert_absolute ("nbd+unix:///?socket=s", "nbd+unix:///?socket=/usr/s");
  assert_absolute ("nbd+unix:///?socket=./s", "nbd+unix:///?socket=/usr/./s");
  assert_absolute ("nbd+unix:///?socket=../s", "nbd+unix:///?socket=/usr/../s");
  assert_absolute ("nbd+unix:///e%20x?socket=a%20b",
                   "nbd+unix:///e%20x?socket=/usr/a%20b");
  assert_absolute ("nbd+unix://?socket=s#frag?socket=t",
                   "nbd+unix://?socket=/usr/s#frag?socket=t");
  assert_absolute ("nbds://h/?tls-certificates=pki",
                   "nbds://h/?tls-certificates=/usr/pki");
  assert_absolute ("nbds://u@h/?tls-psk-file=keys",
                   "nbds://u@h/?tls-psk-file=/usr/keys");
  assert_absolute ("nbds+unix://u@/?a=b&socket=s&tls-psk-file=/k&socket=t?",
                   "nbds+unix://u@/?a=b&socket=/usr/s&tls-psk-file=/k"
                   "&socket=/usr/t?");
  CU_ASSERT_EQUAL (leave_directory (), 0);
}

/* As it would be written on a command line. */
static void
test_unencoded (void)
{
  assert_absolute ("nbd+unix:///?socket=/a b", "nbd+unix:///?socket=/a%20b");
  assert_absolute ("nbd+unix:///?socket=/a%20b c%",
                   "nbd+unix:///?socket=/a%20b%20c%25");
  assert_absolute ("nbd+unix:///?socket=/%4&x=%4",
                   "nbd+unix:///?socket=/%254&x=%4");
  assert_absolute ("nbds+unix://u@/?socket=/\xc3\xa4&tls-psk-file=/[k]",
                   "nbds+unix://u@/?socket=/%C3%A4&tls-psk-file=/%5Bk%5D");
  CU_ASSERT_EQUAL_FATAL (chdir ("/usr"), 0);
  assert_absolute ("nbds://h/?tls-certificates={a}|b^\\<\">`",
                   "nbds://h/?tls-certificates=/usr/"
                   "%7Ba%7D%7Cb%5E%5C%3C%22%3E%60");
  CU_ASSERT_EQUAL (leave_directory (), 0);
}

/* ';' separates only where no '&' follows: measured with libnbd 1.14. */
static void
test_semicolon (void)
{
  CU_ASSERT_EQUAL_FATAL (chdir ("/usr"), 0);
  assert_absolute ("nbd+unix:///?x=1;socket=s",
                   "nbd+unix:///?x=1;socket=/usr/s");
  assert_absolute ("nbd+unix:///?x=1;socket=s&y=2",
                   "nbd+unix:///?x=1;socket=s&y=2");
  assert_absolute ("nbd+unix:///?y=2&x=1;socket=s;z=/",
                   "nbd+unix:///?y=2&x=1;socket=/usr/s;z=/");
  CU_ASSERT_EQUAL (leave_directory (), 0);
}

static void
test_root_directory (void)
{
  CU_ASSERT_EQUAL_FATAL (chdir ("/"), 0);
  assert_absolute ("nbd+unix:///?socket=s", "nbd+unix:///?socket=/s");
  CU_ASSERT_EQUAL (leave_directory (), 0);
}

static void
test_odd_directory (void)
{
  char parent[] = "/tmp/test-uri-XXXXXX";
  char expected[PATH_MAX];

  CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (parent));
  CU_ASSERT_EQUAL_FATAL (chdir (parent), 0);
  CU_ASSERT_EQUAL_FATAL (mkdir (ODD_NAME, 0700), 0);
  CU_ASSERT_EQUAL_FATAL (chdir (ODD_NAME), 0);
  snprintf (expected, sizeof expected, "nbd+unix:///?socket=%s/%s/s&x=y",
            parent, ODD_NAME_ENCODED);
  assert_absolute ("nbd+unix:///?socket=s&x=y", expected);

  /* The directory is gone: an error only where it is needed. */
  CU_ASSERT_EQUAL_FATAL (chdir (".."), 0);
  CU_ASSERT_EQUAL_FATAL (rmdir (ODD_NAME), 0);
  CU_ASSERT_EQUAL_FATAL (rmdir (parent), 0);
  errno = 0;
  CU_ASSERT_PTR_NULL (uri_absolute ("nbd+unix:///?socket=s"));
  CU_ASSERT_EQUAL (errno, ENOENT);
  assert_absolute ("nbd+unix:///?socket=/s", "nbd+unix:///?socket=/s");
  CU_ASSERT_EQUAL (leave_directory (), 0);
}

/* Once more changes nothing. */
static void
test_idempotent (void)
{
  CLEANUP_FREE char *once = uri_absolute ("nbd+unix:///?socket=s&x=y");

  CU_ASSERT_PTR_NOT_NULL_FATAL (once);
  assert_absolute (once, once);
}

static void
test_export_name (void)
{
  static const struct {
    const char *uri, *name;
  } cases[] = {
    { "nbd://host", "" },
    { "nbd://host/", "" },
    { "nbd://host:10809/a", "a" },
    { "nbd://host?x=/y", "" },
    { "nbd://host#/y", "" },
    { "nbd+unix:///?socket=/s", "" },
    { "nbd+unix:///a/b?socket=/s", "a/b" },
    { "nbd+unix:////a?socket=/s", "/a" },
    { "nbds://user@host/a%20%2f%3Fb#c", "a /?b" },
    { "nbd://host/a%2", "a%2" },
    { "nbd://host/100%zz", "100%zz" },
    { "nbd://[::1]:1/x", "x" },
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    CLEANUP_FREE char *name = uri_export_name (cases[i].uri);

    CU_ASSERT_PTR_NOT_NULL_FATAL (name);
    CU_ASSERT_STRING_EQUAL (name, cases[i].name);
  }
}

/* "HOST PORT", or NULL: left to libnbd. */
static void
test_tcp_address (void)
{
  static const struct {
    const char *uri, *expected;
  } cases[] = {
    { "nbd://host", "host 10809" },
    { "nbd://host.example:1/", "host.example 1" },
    { "nbd://10.0.0.1:10810/disk%201", "10.0.0.1 10810" },
    { "nbd://[2001:db8::1]:99/a/b", "2001:db8::1 99" },
    { "nbd://[::ffff:1.2.3.4]", "::ffff:1.2.3.4 10809" },
    { "nbds://host", NULL },
    { "nbd+unix:///?socket=x", NULL },
    { "nbd://", NULL },
    { "nbd:///disk", NULL },
    { "nbd://:10809/", NULL },
    { "nbd://host:/", NULL },
    { "nbd://host:123456", NULL },
    { "nbd://host:12x", NULL },
    { "nbd://user@host", NULL },
    { "nbd://h%6fst", NULL },
    { "nbd://::1", NULL },
    { "nbd://[::1", NULL },
    { "nbd://[fe80::1%25eth0]", NULL },
    { "nbd://host/a b", NULL },
    { "nbd://host/a%00b", NULL },
    { "nbd://host/a%2", NULL },
    { "nbd://host/?tls-username=x", NULL },
    { "nbd://host?x", NULL },
    { "nbd://host/#x", NULL },
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    CLEANUP_FREE char *host = NULL;
    CLEANUP_FREE char *port = NULL;
    CLEANUP_FREE char *both = NULL;

    if (!uri_tcp_address (cases[i].uri, &host, &port)) {
      host = port = NULL;
      CU_ASSERT_PTR_NULL (cases[i].expected);
      continue;
    }
    CU_ASSERT_FATAL (asprintf (&both, "%s %s", host, port) > 0);
    CU_ASSERT_PTR_NOT_NULL_FATAL (cases[i].expected);
    CU_ASSERT_STRING_EQUAL (both, cases[i].expected);
  }
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "schemes", test_is_nbd },
    { "schemes", test_wrong },
    { "nothing to change", test_unchanged },
    { "relative paths", test_absolute },
    { "what is not encoded", test_unencoded },
    { "semicolons", test_semicolon },
    { "in the root directory", test_root_directory },
    { "in a directory with an odd name, and gone", test_odd_directory },
    { "twice", test_idempotent },
    { "export name", test_export_name },
    { "the address for plain TCP", test_tcp_address },
    CU_TEST_INFO_NULL,
  };

  start_directory = getcwd (NULL, 0);
  if (start_directory == NULL) {
    perror ("getcwd");
    return EXIT_FAILURE;
  }

  const int r = unit_main ("uri", tests);

  free (start_directory);
  return r;
}
