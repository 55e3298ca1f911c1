"""
A stand-in for systemd that starts a program under what a unit file promises, as far as that goes without systemd:
capability sets, no_new_privs, limits, system call filters, read-only mounts, user, environment. As a library: Unit reads
the file, `command` gives the words that start a program so. As a program (the words that `command` gives) it does it.
"""
import ctypes
import functools
import json
import os
import resource
import subprocess
import sys

CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 1, 32, 4096, 16384, 1 << 18
KEPT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "noatime": 1024, "nodiratime": 2048, "relatime": 1 << 21}
ALLOW, EPERM, EAFNOSUPPORT = 0x7FFF0000, 1, 97
NE, EQ, MASKED_EQ = 1, 4, 7
NAMESPACES = {"cgroup": 0x02000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": CLONE_NEWNS, "pid": 0x20000000, "user": 0x10000000,
              "uts": 0x04000000, "time": 0x80}
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


# --- the file

class Unit:
    """Section.Key → list of values, as systemd reads them: an empty one forgets those before."""

    def __init__(self, path):
        self.values, section = {}, ""
        with open(path) as f:
            for line in f.read().replace("\\\n", " ").splitlines():
                line = line.strip()
                if line.startswith("["):
                    section = line.strip("[]")
                elif line and line[0] not in "#;":
                    key, _, value = line.partition("=")
                    kept = self.values.setdefault((section, key), [])
                    kept.append(value.strip()) if value.strip() else kept.clear()

    def all(self, key, section="Service"):
        return self.values.get((section, key), [])

    def get(self, key, default=None, section="Service"):
        return (self.all(key, section) or [default])[-1]

    def on(self, key):
        return self.get(key, "no") in ("yes", "true", "on", "1")

    def words(self, key):
        return " ".join(self.all(key)).split()

    def syscalls(self):
        """Names that SystemCallFilter= allows: what systemd always allows, then item by item, `~` taking away."""
        names = set(syscall_group("@default"))
        for value in self.all("SystemCallFilter"):
            away = value.startswith("~")
            for word in value.lstrip("~").split():
                group = set(syscall_group(word)) if word[0] == "@" else {word}
                names = names - group if away else names | group
        return sorted(names)

    def command(self, here, argv, env, writable=(), readonly=(), as_root=False, user=None):
        """The words that start argv so. here: those that start this file. as_root: it is root that runs them; user: (uid, gid) of User= then."""
        spec = {"argv": argv, "env": env, "writable": list(writable), "readonly": list(readonly), "syscalls": self.syscalls(),
                "families": [FAMILIES[w] for w in self.words("RestrictAddressFamilies")], "namespaces": self.on("RestrictNamespaces"),
                "suid": self.on("RestrictSUIDSGID"), "proc": self.get("ProtectProc", ""), "personality": self.on("LockPersonality"),
                "nofile": self.get("LimitNOFILE", "")}
        cmd = ["setpriv"] + (["--no-new-privs"] if self.on("NoNewPrivileges") else [])
        if as_root:
            bound, ambient = self.words("CapabilityBoundingSet"), self.words("AmbientCapabilities")
            cmd += ["--bounding-set=" + caps(bound), "--inh-caps=" + caps(ambient), "--ambient-caps=" + caps(ambient)]
        if user:
            cmd += [f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups"]
        words = cmd + here + ["filter", json.dumps(spec)]
        return here + ["mounts", json.dumps({**spec, "argv": words})] if as_root and may_mount() and self.get("ProtectSystem") == "strict" else words


def may_mount():
    """A root in a container often may not."""
    return subprocess.run(["unshare", "--mount", "true"], stderr=subprocess.DEVNULL).returncode == 0


def caps(names):
    return ",".join(["-all"] + ["+" + n.removeprefix("CAP_").lower() for n in names])


@functools.lru_cache(None)
def syscall_group(name):
    out = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name], stdout=subprocess.PIPE, check=True, text=True).stdout
    words = [x.strip() for x in out.splitlines()[1:] if x.strip() and not x.strip().startswith("#")]
    return tuple(n for w in words for n in (syscall_group(w) if w[0] == "@" else (w,)))


# --- what the kernel is told, before the program takes over

libc = ctypes.CDLL(None, use_errno=True)


def check(rc, what):
    if rc != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, flags, kind=None, options=None):
    words = [w.encode() if w else None for w in (source, target, kind, options)]
    check(libc.mount(*words[:3], ctypes.c_ulong(flags), words[3]), f"mount {target}")


def mounted():
    """Mount point → flags that a remount has to keep."""
    with open("/proc/self/mountinfo") as f:
        rows = [line.split() for line in f]
    return {r[4].encode().decode("unicode_escape"): sum(KEPT_FLAGS.get(o, 0) for o in r[5].split(",")) for r in rows}


def read_only_but(writable, readonly):
    """ProtectSystem=strict: everything but /dev, /proc, /sys, the given folders and the temporary ones; `readonly` below those again."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount(None, "/", MS_REC | MS_PRIVATE)
    for folder in ["/tmp", "/var/tmp", *readonly, *writable]:
        mount(folder, folder, MS_BIND | MS_REC)
    spared = ("/dev", "/proc", "/sys", "/tmp", "/var/tmp", *writable)
    for point, flags in mounted().items():
        if point in readonly or not any(point == s or point.startswith(s + "/") for s in spared):
            try:
                mount(None, point, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
            except OSError as e:
                if e.errno not in (2, 13, 22):      # hidden below another mount
                    raise


class Arg(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


class Filter:
    def __init__(self, default):
        self.lib = ctypes.CDLL("libseccomp.so.2")
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.ctx = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action, name, *args):
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:      # not of this machine
            return
        rc = self.lib.seccomp_rule_add_array(self.ctx, ctypes.c_uint32(action), number, len(args), (Arg * len(args))(*args))
        assert rc in (0, -17), (name, rc)

    def load(self):
        assert self.lib.seccomp_load(self.ctx) == 0, "seccomp_load"


def errno(n):
    return 0x00050000 | n


def filters(spec):
    refused = Filter(ALLOW)
    for family in range(1, 64):
        if spec["families"] and family not in spec["families"]:
            refused.rule(errno(EAFNOSUPPORT), "socket", Arg(0, EQ, family, 0))
    if spec["namespaces"]:
        refused.rule(errno(EPERM), "setns")
        for flag in NAMESPACES.values():
            for call in ("unshare", "clone") if flag != 0x80 else ("unshare",):     # in clone that bit is part of a signal
                refused.rule(errno(EPERM), call, Arg(0, MASKED_EQ, flag, flag))
        refused.rule(errno(38), "clone3")       # its flags cannot be seen: the C library then takes clone
    if spec["suid"]:        # of RestrictSUIDSGID= what would hurt: the mode that openat2 gets cannot be seen, so it is refused whole
        refused.rule(errno(EPERM), "openat2")
    if spec["personality"]:
        refused.rule(errno(EPERM), "personality", Arg(0, NE, libc.personality(0xFFFFFFFF), 0))
    allowed = Filter(errno(EPERM))
    for name in spec["syscalls"]:
        allowed.rule(ALLOW, name)
    return refused, allowed


def main():
    step, spec = sys.argv[1], json.loads(sys.argv[2])
    if step == "mounts":
        read_only_but(spec["writable"], spec["readonly"])
        if spec["proc"]:
            mount("proc", "/proc", KEPT_FLAGS["nosuid"] | KEPT_FLAGS["nodev"] | KEPT_FLAGS["noexec"], "proc", "hidepid=" + spec["proc"])
        os.execvp(spec["argv"][0], spec["argv"])
    soft, _, hard = spec["nofile"].partition(":")
    if soft:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(soft), min(int(hard or soft), most)))
    env = dict(spec["env"], SYSTEMD_EXEC_PID=str(os.getpid()))
    if "WATCHDOG_USEC" in env:
        env["WATCHDOG_PID"] = str(os.getpid())
    for f in filters(spec):
        f.load()
    os.execve(spec["argv"][0], spec["argv"], env)


if __name__ == "__main__":
    main()
