"""A service that behaves like a JIT runtime: `jit.py LISTEN` writes machine code and runs it at each request, and tells what it may."""
import ctypes
import json
import mmap
import os
import platform
import sys
import tempfile
import time

import backends
from service import listening

CODE = {"x86_64": b"\xb8\x2a\x00\x00\x00\xc3", "aarch64": b"\x40\x05\x80\x52\xc0\x03\x5f\xd6"}      # return 42


def run_code():
    """A page that is writable and executable at once, then one that turns from the one into the other."""
    code = CODE[platform.machine()]
    both = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    both.write(code)
    at = ctypes.addressof(ctypes.c_char.from_buffer(both))
    first = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    libc = ctypes.CDLL(None, use_errno=True)
    rc = libc.mprotect(ctypes.c_void_p(at), mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC)
    assert rc == 0, os.strerror(ctypes.get_errno())
    assert ctypes.CFUNCTYPE(ctypes.c_int)(at)() == first
    return first


def may_write(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def behave(peer, req):
    peer.backend.whole(peer, req)
    told = {"jit": run_code(), "pid": os.getpid(), "env": dict(os.environ), "tmp": may_write("/tmp"), "data": may_write("."),
            "elsewhere": may_write("/usr/local")}
    return peer.reply(200, [("Content-Type", "application/json")], json.dumps(told))


backends.Backend(behave, sock=listening(sys.argv[1]))
while True:
    time.sleep(1000)
