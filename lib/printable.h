/* SPDX-License-Identifier: BSD-3-Clause */
/* What somebody else has said is shown on one line, and steers no terminal. */

#ifndef NBDMIGRATE_PRINTABLE_H
#define NBDMIGRATE_PRINTABLE_H

/* Control characters of ASCII, and those that UTF-8 writes as C2 80 to C2 9F:
 * each of their bytes becomes 'instead'.
 */
static inline void
make_printable (char *text, char instead)
{
  for (; *text != '\0'; ++text) {
    const unsigned char byte = (unsigned char)text[0];
    const unsigned char next = (unsigned char)text[1];

    if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
      *text++ = instead;
      *text = instead;
    }
    else if (byte < ' ' || byte == 127)
      *text = instead;
  }
}

#endif /* NBDMIGRATE_PRINTABLE_H */
