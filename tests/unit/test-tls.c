/* SPDX-License-Identifier: BSD-3-Clause */
/* Which URIs with TLS are refused because libnbd would check no certificate. */

#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include <libnbd.h>

#include "cleanup.h"
#include "tls.h"
#include "unit.h"

static char top[] = "/tmp/test-tls-XXXXXX"; /* good/ca-cert.pem, empty/ */

static char *
path_of (const char *name)
{
  char *path;

  if (asprintf (&path, "%s/%s", top, name) == -1)
    abort ();
  return path;
}

static void
must (bool done, const char *path)
{
  if (done)
    return;
  perror (path);
  exit (EXIT_FAILURE);
}

static void
make_directory (const char *name)
{
  CLEANUP_FREE char *path = path_of (name);

  must (mkdir (path, 0755) == 0, path);
}

static void
make_file (const char *name)
{
  CLEANUP_FREE char *path = path_of (name);
  FILE *f = fopen (path, "w");

  must (f != NULL && fclose (f) == 0, path);
}

static void
removed (const char *name)
{
  CLEANUP_FREE char *path = path_of (name);

  must (remove (path) == 0, path);
}

/* "TOP" in the URI stands for the directory. */
static void
expect (const char *uri, const char *part)
{
  CLEANUP_FREE char *full = NULL, *why = NULL;
  const char *at = strstr (uri, "TOP");

  if (at == NULL)
    full = strdup (uri);
  else if (asprintf (&full, "%.*s%s%s", (int)(at - uri), uri, top, at + 3) ==
           -1)
    full = NULL;
  CU_ASSERT_PTR_NOT_NULL_FATAL (full);
  why = tls_refusal (full);
  if (part == NULL ? why == NULL : why != NULL && strstr (why, part) != NULL)
    return;
  printf ("(%s: %s) ", full, why ? why : "not refused");
  CU_FAIL ("another answer");
}

static void
test_no_certificate (void)
{
  expect ("nbd://host/x", NULL);
  expect ("nbd+unix:///?socket=/s", NULL);
  expect ("nbd://host/?tls-certificates=/nowhere", NULL);
  expect ("nbds://host/?tls-psk-file=/psk", NULL);
  expect ("nbds://host/?tls-certificates=/nowhere&tls-psk-file=/psk", NULL);
}

static void
test_sockets (void)
{
  expect ("nbds+unix:///?socket=/s", "X.509");
  expect ("NBDS+UNIX:///?socket=/s", "X.509");
  expect ("nbds+vsock://2", "X.509");
  expect ("nbds+unix:///?socket=/s&tls-certificates=TOP/good", "X.509");
  expect ("nbds+unix:///?socket=/s&tls-psk-file=/psk", NULL);
  expect ("nbds+unix:///?tls-psk-file=/psk;socket=/s", NULL);
  /* What libnbd does not take for this parameter. */
  expect ("nbds+unix:///?socket=/s&TLS-PSK-FILE=/psk", "X.509");
  expect ("nbds+unix:///?a=b;tls-psk-file=/psk&socket=/s", "X.509");
  expect ("nbds+unix:///?socket=/tls-psk-file=", "X.509");
  expect ("nbds+unix:///?socket=/s#&tls-psk-file=/psk", "X.509");
  expect ("nbds+unix:///tls-psk-file=x?socket=/s", "X.509");
}

static void
test_unverified (void)
{
  expect ("nbds://h/?tls-certificates=TOP/good&tls-verify-peer=true", NULL);
  expect ("nbds://h/?tls-certificates=TOP/good&tls-verify-peer=false",
          "tls-verify-peer");
  expect ("nbds://h/?TLS-Verify-Peer=0&tls-certificates=TOP/good",
          "tls-verify-peer");
  expect ("nbds://h/?tls-verify-peer&tls-certificates=TOP/good",
          "tls-verify-peer");
  expect ("nbds://h/?tls-verify-peer=no&tls-psk-file=/psk", NULL);
  expect ("nbd://h/?tls-verify-peer=no", NULL);
}

static void
test_hostname (void)
{
#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
  const char *refused = NULL;
#else
  const char *refused = "1.22";
#endif

  expect ("nbds://h/?tls-certificates=TOP/good&tls-hostname=a", refused);
  expect ("nbds+unix:///?socket=/s&tls-certificates=TOP/good&tls-hostname=a",
          refused);
  /* libnbd does not take it for this parameter. */
  expect ("nbds+unix:///?socket=/s&tls-certificates=TOP/good&TLS-Hostname=a",
          "X.509");
  expect ("nbds://h/?tls-certificates=TOP/good&TLS-Hostname=a", NULL);
  expect ("nbds+unix:///?socket=/s&tls-certificates=TOP/good&tls-hostname=",
          "is empty");
  expect ("nbds+unix:///?socket=/s&tls-certificates=TOP/no&tls-hostname=a",
          refused ? refused : "ca-cert.pem");
}

static void
hint (const char *uri, const char *why, const char *part)
{
  const char *text = tls_hint (uri, why);

  if (part == NULL ? text == NULL : text != NULL && strstr (text, part) != NULL)
    return;
  printf ("(%s, %s: %s) ", uri, why, text ? text : "nothing");
  CU_FAIL ("another hint");
}

static void
test_hints (void)
{
  hint ("nbds://h/", "gnutls_handshake: Error in the certificate verification.",
        "another host");
  hint ("nbds://h/", "gnutls_record_send: non-properly terminated",
        "certificate of the client");
  hint ("nbds://h/?tls-psk-file=/p", "gnutls_handshake: terminated", "user");
  hint ("nbds://h/?tls-psk-file=/p", "server refused TLS", "has no TLS");
  hint ("nbds://h/", "Connection refused", NULL);
  hint ("nbd://h/", "gnutls_handshake: terminated", NULL);
}

static void
test_directory (void)
{
  expect ("nbds://host/?tls-certificates=TOP/good", NULL);
  expect ("nbds://host/?a=b&tls-certificates=TOP/g%6fod&c=d", NULL);
  expect ("nbds://host/?tls-certificates=TOP/empty", "ca-cert.pem");
  expect ("nbds://host/?tls-certificates=TOP/nowhere", "No such file");
  expect ("nbds://host/?tls-certificates=", "ca-cert.pem");
  expect ("nbds://host/?tls-certificates", "ca-cert.pem");
  expect ("nbds://h/?tls-certificates=/no&tls-certificates=TOP/good", "/no/");
  expect ("nbds://h/?tls-certificates=TOP/good&TLS-Certificates=/no", "/no/");
}

static void
test_default (void)
{
  const bool system = access ("/etc/pki/libnbd/ca-cert.pem", R_OK) == 0;
  const char *refused = system ? NULL : "tls-certificates=DIR";
  const uid_t user = geteuid ();

  setenv ("HOME", top, 1);
  expect ("nbds://host/", refused);
  expect ("nbds://host/?TLS-Certificates=TOP/good", refused);
  make_directory (".config");
  make_directory (".config/pki");
  make_directory (".config/pki/libnbd");
  expect ("nbds://host/", refused);
  make_file (".config/pki/libnbd/ca-cert.pem");
  if (user == 0) {
    expect ("nbds://host/", refused); /* libnbd does not look there for root */
    CU_ASSERT_EQUAL (seteuid (65534), 0);
  }
  expect ("nbds://host/", NULL);
  CU_ASSERT_EQUAL (seteuid (user), 0);
  unsetenv ("HOME");
  expect ("nbds://host/", refused);
  removed (".config/pki/libnbd/ca-cert.pem");
  removed (".config/pki/libnbd");
  removed (".config/pki");
  removed (".config");
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "no certificate is used", test_no_certificate },
    { "X.509 without a host name", test_sockets },
    { "tls-verify-peer", test_unverified },
    { "tls-hostname", test_hostname },
    { "what to do", test_hints },
    { "a directory that is named", test_directory },
    { "none is named", test_default },
    CU_TEST_INFO_NULL,
  };
  int result;

  if (mkdtemp (top) == NULL || chmod (top, 0755) == -1)
    return EXIT_FAILURE;
  make_directory ("good");
  make_file ("good/ca-cert.pem");
  make_directory ("empty");
  result = unit_main ("tls", tests);
  removed ("good/ca-cert.pem");
  removed ("good");
  removed ("empty");
  removed ("");
  return result;
}
