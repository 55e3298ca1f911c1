"""A program at a pseudo terminal: what it prints, and what is typed."""
import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading

from procs import wait_for


class Terminal:
    def __init__(self, t, args, env=None, cwd=None):
        """Starts the program with the terminal as its three standard files."""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))     # no line is broken
        self.text = ""
        self.proc = subprocess.Popen(args, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True)
        os.close(slave)
        t.defer(self.end)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:     # the other end is closed
                return
            if not data:
                return
            self.text += data.decode(errors="replace")

    def wait(self, words, behind=0):
        """Until it has printed the words; returns where they end, to look behind it next."""
        wait_for(f"`{words}` on the terminal", lambda: words in self.text[behind:] or self.proc.poll() is not None)
        if words not in self.text[behind:]:
            self.reader.join(60)
            assert words in self.text[behind:], f"it ended with {self.proc.returncode} and this:\n{self.text}"
        return self.text.index(words, behind) + len(words)

    def type(self, text):
        os.write(self.master, text.encode())

    def exit(self):
        """Its exit status, once it ended and all it printed is here."""
        wait_for("its end", lambda: self.proc.poll() is not None)
        self.reader.join(60)
        return self.proc.returncode

    def end(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.reader.join(60)
        os.close(self.master)
