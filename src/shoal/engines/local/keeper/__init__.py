"""The keeper: a tiny process that is the parent of everything an app runs, and outlives whoever commands it.

It forks, keeps exit codes, moves what processes write into log files, and restarts the daemon. It decides nothing
else. Run as `python -I -S <this folder> ROOT RUN -- DAEMON_ARGV...`: standard library only, and none of Shoal but this
package, under the name `keeper`; hence the relative imports. `start` alone belongs to the callers' side.
"""

PROTOCOL = 1
VERSION = "0.1.0"
