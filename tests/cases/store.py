"""What systemd does for a service with FileDescriptorStoreMax=: keeps descriptors, hands them back at the next start."""
import os
import sys
import threading


class Store:
    """messages: FDSTORE, FDSTOREREMOVE and FDNAME of sd_notify(3). attach(gate) before its start, and before the next one."""

    def __init__(self):
        self.lock, self.kept = threading.Lock(), []     # (name, descriptor), each socket once

    def message(self, lines, fds):
        name = next((x[7:] for x in lines if x.startswith("FDNAME=")), "stored")
        with self.lock:
            known = {os.fstat(fd).st_ino for _, fd in self.kept}
            for fd in fds:
                if "FDSTORE=1" in lines and os.fstat(fd).st_ino not in known:
                    self.kept.append((name, fd))
                    known.add(os.fstat(fd).st_ino)
                else:
                    os.close(fd)
            if "FDSTOREREMOVE=1" in lines:
                for n, fd in self.kept:
                    if n == name:
                        os.close(fd)
                self.kept = [(n, fd) for n, fd in self.kept if n != name]

    def names(self):
        with self.lock:
            return [n for n, _ in self.kept]

    def attach(self, gate):
        gate.store = self
        fds = [fd for _, fd in self.kept]
        gate.pass_fds = fds
        code = (f"import os, sys; fds = {fds}; high = [os.dup2(fd, 1000 + i, True) for i, fd in enumerate(fds)]; "
                "[os.dup2(fd, 3 + i, True) for i, fd in enumerate(high)]; os.closerange(3 + len(fds), 3000); "
                f"os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES={':'.join(self.names())!r}); "
                "os.execv(sys.argv[1], sys.argv[1:])")
        gate.wrap = [sys.executable, "-c", code] if fds else []

    def close(self):
        with self.lock:
            for _, fd in self.kept:
                os.close(fd)
            self.kept = []
