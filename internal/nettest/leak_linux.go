package nettest

import (
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long what is ending already may take to be gone: threads and
// killed children linger for a moment.
const patience = 2 * time.Second

// end removes the namespace and fails the test if something still holds it.
func (ns *NS) end() {
	if ns.removed {
		return
	}
	held := ns.holders()
	for deadline := time.Now().Add(patience); len(held) > 0 && time.Now().Before(deadline); held = ns.holders() {
		time.Sleep(10 * time.Millisecond)
	}
	for _, h := range held {
		ns.t.Errorf("leak: namespace %s is still held by %s", ns.Name, h)
	}
	ns.Delete()
}

// holders are the files below /proc that refer to the namespace: this process's
// descriptors and threads, and the processes that run in it.
func (ns *NS) holders() []string {
	var want syscall.Stat_t
	if syscall.Stat(ns.Path, &want) != nil {
		return nil
	}
	var found []string
	for _, pattern := range []string{
		"/proc/self/fd/*", "/proc/self/task/*/ns/net", "/proc/[0-9]*/ns/net",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			ns.t.Fatal(err)
		}
		for _, p := range paths {
			var st syscall.Stat_t
			if syscall.Stat(p, &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
				found = append(found, describe(p))
			}
		}
	}
	return found
}

func describe(path string) string {
	comm, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(path)), "comm"))
	if err != nil {
		return path
	}
	return path + " (" + string(comm[:max(0, len(comm)-1)]) + ")"
}
