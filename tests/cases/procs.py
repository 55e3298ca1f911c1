"""Looking at processes through /proc: who is whose child, memory, descriptors. Nothing here starts or knows headgate."""
import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of our children become ours, so that no process can get lost."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def stat(pid):
    """Fields of /proc/PID/stat after the name: state, ppid, pgrp, session, … or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].decode().split()
    except OSError:
        return None


def alive(pid):
    s = stat(pid)
    return s is not None and s[0] not in "ZX"


def started(pid):
    s = stat(pid)
    return int(s[19]) if s else None


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def parents():
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            s = stat(int(name))
            if s and s[0] not in "ZX":
                out[int(name)] = int(s[1])
    return out


def children(pid):
    return sorted(p for p, parent in parents().items() if parent == pid)


def descendants(pid):
    up = parents()
    found, grew = {pid}, True
    while grew:
        more = {p for p, parent in up.items() if parent in found and p not in found}
        found |= more
        grew = bool(more)
    return sorted(found - {pid})


def status_field(pid, field):
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return None


def rss(pid):
    """Bytes of resident memory."""
    v = status_field(pid, "VmRSS")
    return int(v.split()[0]) * 1024 if v else 0


def uid(pid):
    v = status_field(pid, "Uid")
    return int(v.split()[1]) if v else None


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def cpu_ticks(pid):
    s = stat(pid)
    return int(s[11]) + int(s[12]) if s else 0


def reap():
    """Takes the exit statuses of adopted orphans."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def kill_all(pids):
    for p in pids:
        try:
            os.kill(p, signal.SIGKILL)
        except ProcessLookupError:
            pass


def close_all(fds):
    for fd in fds:
        os.close(fd)


def wait_for(what, probe, guard=60.0, every=0.01):
    """Waits until probe() is true and returns its value; the guard is only against hangs."""
    end = time.monotonic() + guard
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {guard:.0f} s in vain for: {what}")
        time.sleep(every)
