"""Why no user namespace can be made here: nsjail itself says only that its child did not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_SWITCHES = (
    ("user.max_user_namespaces", "0"),
    ("user.max_pid_namespaces", "0"),
    ("user.max_mnt_namespaces", "0"),
    ("user.max_net_namespaces", "0"),
)
"""Settings and the value at which nobody gets the namespaces of a jail (namespaces(7))."""

_SWITCHES_OF_USERS = (
    ("kernel.unprivileged_userns_clone", "0"),  # Debian's kernels
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),  # Ubuntu from 24.04 on
)
"""Likewise, for everyone but root."""

_TRY = (
    "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); sys.exit(c.unshare(0x10000000) and ctypes.get_errno())"
)
"""Exit code: errno of ``unshare(CLONE_NEWUSER)``."""


def why_no_namespaces(settings: Path = Path("/proc/sys")) -> str | None:
    """One line about what keeps a jail from its namespaces; None if nothing that can be seen from here.

    The kernel's settings are read first, because the error alone ("No space left on device", "Operation not
    permitted") tells nobody what to change.
    """
    for name, value in (*_SWITCHES, *(_SWITCHES_OF_USERS if os.geteuid() else ())):
        try:
            set_to = (settings / name.replace(".", "/")).read_text(encoding="ascii").strip()
        except OSError:
            continue  # not of this kernel
        if set_to == value:
            return f"user namespaces are off: {name} is {value}"
    try:
        number = subprocess.run([sys.executable, "-I", "-S", "-c", _TRY], timeout=20, capture_output=True).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return f"user namespaces are refused: {os.strerror(number)}" if number else None
