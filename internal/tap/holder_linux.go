package tap

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// busy is ErrBusy with the name of the holder, where it can be told.
func busy(name string) error {
	who := ""
	if h := holder(name); h != "" {
		who = " (" + h + ")"
	}
	return fmt.Errorf("%w%s; stop that one or choose another name", ErrBusy, who)
}

// holder names a program that has the TAP device open, "" if none is found. It
// looks among the programs of this network namespace: elsewhere the same name
// means another device.
func holder(name string) string {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return ""
	}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return ""
	}
	for _, proc := range procs {
		ns, err := os.Stat(proc + "/ns/net")
		if err != nil || !os.SameFile(ns, own) {
			continue
		}
		infos, err := filepath.Glob(proc + "/fdinfo/*")
		if err != nil {
			continue
		}
		for _, info := range infos {
			if isOf(info, name) {
				comm, err := os.ReadFile(proc + "/comm")
				if err != nil {
					return ""
				}
				return fmt.Sprintf("%s, pid %s", strings.TrimSpace(string(comm)), filepath.Base(proc))
			}
		}
	}
	return ""
}

// isOf reports whether a file below /proc/PID/fdinfo is that of a queue of the
// device: it then has a line "iff:" with the name.
func isOf(info, name string) bool {
	fd, err := os.Open(info)
	if err != nil {
		return false
	}
	defer fd.Close()
	for lines := bufio.NewScanner(fd); lines.Scan(); {
		if iff, ok := strings.CutPrefix(lines.Text(), "iff:"); ok {
			return strings.TrimSpace(iff) == name
		}
	}
	return false
}
