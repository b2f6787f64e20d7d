"""Becomes another user and then the command: `python -I -S as_user.py UID FOLDER -- COMMAND...`. Stdlib only."""

import os
import sys


def main(argv: list[str]) -> None:
    uid, folder, command = int(argv[1]), argv[2], argv[4:]
    os.chdir(folder)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o077)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]} as user {uid}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv)
