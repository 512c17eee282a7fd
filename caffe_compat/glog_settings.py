"""glog's settings: from which severity on lines are written, and the files that they go to beside stderr.

They come from the environment (GLOG_minloglevel, GLOG_logtostderr, GLOG_log_dir) or from flags of the same names.
"""

import os
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TextIO

from caffe_compat.errors import CaffeCompatError

SEVERITIES = "IWEF"
_NAMES = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "FATAL"}
_TRUE = ("1", "true", "t", "yes", "y")
#: flags and whether they take a value; stderrthreshold has no effect, as in Caffe, which logs all to stderr, too
FLAGS = {
    "minloglevel": True,
    "log_dir": True,
    "stderrthreshold": True,
    "logtostderr": False,
    "alsologtostderr": False,
}


@dataclass
class GlogSettings:
    """``least``: the severity from which on lines are written (0 information, 1 warnings, 2 errors, 3 fatal).

    ``folder``: where log files go, if anywhere; ``only_stderr`` wins over it.
    """

    least: int = 0
    folder: str = ""
    only_stderr: bool = False
    unread: bool = False  # whether the environment is still to be read
    _files: dict[str, TextIO] = field(default_factory=dict)

    def set(self, name: str, value: str) -> None:
        """Set one of ``FLAGS``; CaffeCompatError for a value that it does not take."""
        if self.unread:  # what is set now wins over the environment
            self.set_from_environment()
        if name == "minloglevel":
            if not value.strip().isdigit():
                raise CaffeCompatError(f"minloglevel is {value!r}; expected a severity from 0 (all lines) to 3")
            self.least = int(value)
        elif name == "log_dir":
            if value and not Path(value).is_dir():
                raise CaffeCompatError(f"log_dir: {value}: no such folder; make it first")
            self.folder = value
        elif name == "logtostderr":
            self.only_stderr = value.lower() in _TRUE
        self.close()

    def set_from_environment(self) -> None:
        """Take what GLOG_... variables say; CaffeCompatError for a value that cannot be."""
        self.unread = False
        for name in FLAGS:
            value = os.environ.get(f"GLOG_{name}")
            if value:
                self.set(name, value)

    def write(self, line: str, stream: TextIO) -> None:
        """Write a whole line, which starts with its severity, to ``stream`` and the files."""
        if self.unread:
            self.set_from_environment()
        severity = SEVERITIES.index(line[0])
        if severity < self.least:
            return
        stream.write(line)
        stream.flush()
        if self.folder and not self.only_stderr:
            for letter in SEVERITIES[: severity + 1]:
                file = self._file(letter)
                file.write(line)
                file.flush()

    def _file(self, letter: str) -> TextIO:
        """glog's file for lines of a severity and above, made at the first of them, with a link of a fixed name."""
        if letter not in self._files:
            import getpass  # late: few write files
            import socket

            program, name = Path(sys.argv[0]).stem or "caffe", _NAMES[letter]
            now = datetime.now()
            who = f"{socket.gethostname()}.{getpass.getuser()}"
            path = Path(self.folder) / f"{program}.{who}.log.{name}.{now:%Y%m%d-%H%M%S}.{os.getpid()}"
            file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # until the process ends
            file.write(
                f"Log file created at: {now:%Y/%m/%d %H:%M:%S}\nRunning on machine: {socket.gethostname()}\n"
                "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n"
            )
            link = Path(self.folder) / f"{program}.{name}"
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            self._files[letter] = file
        return self._files[letter]

    def close(self) -> None:
        """Close the files; the next line opens new ones."""
        for file in self._files.values():
            file.close()
        self._files.clear()


#: of this process; the environment is read when the first line is written, so that an import never fails
SETTINGS = GlogSettings(unread=True)
