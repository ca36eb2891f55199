# SPDX-License-Identifier: BSD-3-Clause
"""A minimal NBD client, so that a finding depends on no client library.

It does what the NBD protocol document says for fixed newstyle negotiation,
NBD_OPT_GO, simple and structured replies.  Several requests may be in flight:
send() returns a cookie, wait() takes one.
"""

import socket
import struct

READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
FUA, NO_HOLE = 1, 2
OPTION_MAGIC = 0x49484156454F5054
FLAG_NAMES = {
    "readonly": 1, "flush": 2, "fua": 3, "rotational": 4, "trim": 5,
    "zero": 6, "df": 7, "multi-conn": 8, "cache": 10, "fast-zero": 11,
}


class Refused(Exception):
    """The server answered a request with this error number."""


class Client:
    def __init__(self, where, export="", status=False, connected=None,
                 structured=False):
        self.sock = connected
        if self.sock is None and isinstance(where, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(where)
        elif self.sock is None:
            self.sock = socket.create_connection(where)
        self.cookie = 0
        self.sizes = {}
        self.answers = {}
        self.chunks = []  # offsets of data in structured replies
        self._negotiate(export.encode(), status, structured)

    # -- negotiation

    def _exactly(self, n):
        parts = []
        while n > 0:
            part = self.sock.recv(min(n, 1 << 20))
            if not part:
                raise EOFError("the server closed the connection")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _option(self, option, data):
        self.sock.sendall(struct.pack(">QII", OPTION_MAGIC, option, len(data))
                          + data)
        replies = []
        while True:
            _, opt, kind, length = struct.unpack(">QIII", self._exactly(20))
            assert opt == option
            payload = self._exactly(length)
            if kind == 1 or kind & 0x80000000:
                return kind, replies
            replies.append((kind, payload))

    def _negotiate(self, export, status, structured):
        magic, opt, flags = struct.unpack(">8s8sH", self._exactly(18))
        assert magic == b"NBDMAGIC" and opt == b"IHAVEOPT"
        self.sock.sendall(struct.pack(">I", flags & 3))
        self.context = None
        if status or structured:
            kind, _ = self._option(8, b"")  # structured replies
            assert kind == 1, "no structured replies"
        if status:
            name = b"base:allocation"
            data = (struct.pack(">I", len(export)) + export
                    + struct.pack(">II", 1, len(name)) + name)
            kind, replies = self._option(10, data)
            assert kind == 1 and replies, "no base:allocation"
            self.context = struct.unpack(">I", replies[0][1][:4])[0]
        data = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        kind, replies = self._option(7, data)
        assert kind == 1, "NBD_OPT_GO was refused"
        for what, payload in replies:
            if what == 3 and payload[:2] == b"\0\0":
                self.size, self.flags = struct.unpack(">QH", payload[2:12])

    def has(self, name):
        return bool(self.flags & 1 << FLAG_NAMES[name])

    # -- requests

    def send(self, kind, offset=0, length=0, data=b"", flags=0):
        self.cookie += 1
        length = len(data) or length
        self.sizes[self.cookie] = (kind, length)
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind,
                                      self.cookie, offset, length) + data)
        return self.cookie

    def _simple(self, error, cookie):
        kind, length = self.sizes.pop(cookie)
        data = self._exactly(length) if kind == READ and not error else b""
        self.answers[cookie] = (error, data)

    def _structured(self, flags, kind, cookie, length):
        data = self._exactly(length)
        error, sofar = self.answers.pop(("part", cookie), (0, b""))
        if kind & 0x8000:
            error = struct.unpack(">I", data[:4])[0]
        elif kind == 1:    # data at an offset; in order is enough for us
            self.chunks.append(struct.unpack(">Q", data[:8])[0])
            sofar += data[8:]
        elif kind == 2:    # a hole
            sofar += bytes(struct.unpack(">I", data[8:12])[0])
        elif kind == 5:    # block status
            sofar = data[4:]
        if flags & 1:
            del self.sizes[cookie]
            self.answers[cookie] = (error, sofar)
        else:
            self.answers[("part", cookie)] = (error, sofar)

    def _receive(self):
        magic = struct.unpack(">I", self._exactly(4))[0]
        if magic == 0x67446698:
            self._simple(*struct.unpack(">IQ", self._exactly(12)))
        else:
            assert magic == 0x668E33EF
            self._structured(*struct.unpack(">HHQI", self._exactly(16)))

    def wait(self, cookie):
        while cookie not in self.answers:
            self._receive()
        error, data = self.answers.pop(cookie)
        if error:
            raise Refused(error)
        return data

    def do(self, kind, offset=0, length=0, data=b"", flags=0):
        return self.wait(self.send(kind, offset, length, data, flags))

    def read(self, offset, length):
        return self.do(READ, offset, length)

    def write(self, offset, data, flags=0):
        self.do(WRITE, offset, data=data, flags=flags)

    def zero(self, offset, length, flags=0):
        self.do(ZERO, offset, length, flags=flags)

    def trim(self, offset, length):
        self.do(TRIM, offset, length)

    def flush(self):
        self.do(FLUSH)

    def status(self, offset, length):
        """(length, flags) pairs of base:allocation."""
        data = self.do(STATUS, offset, length)
        n = len(data) // 4
        words = struct.unpack(">%dI" % n, data)
        return list(zip(words[::2], words[1::2]))

    def disconnect(self):
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, DISC, 0, 0, 0))
        self.sock.close()
