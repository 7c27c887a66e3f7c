package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Create makes a network namespace of that name. Its interfaces are down, the
// loopback included. ErrExists means that the name is taken, ErrName that it
// cannot be one.
func Create(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := shareDir(); err != nil {
		return fmt.Errorf("create the network namespace %s: %w", name, err)
	}
	path := Path(name)
	// Mode 0 and O_EXCL as in iproute2: whoever gets to make the file owns the
	// name, and nobody takes the bare file for a namespace.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("create %s: %w", name, ErrExists)
	case err != nil:
		return fmt.Errorf("create the network namespace %s: %s: %w", name, path, err)
	}
	unix.Close(fd)
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount on %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		os.Remove(path)
		return fmt.Errorf("create the network namespace %s: %w", name, err)
	}
	return nil
}

// shareDir makes Dir a mount point with shared propagation, so that a namespace
// that is unmounted here does not stay busy in the mount namespaces of others.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	// iproute2 takes the same lock, and for the same reason: two that start at
	// once would mount Dir twice over.
	lock, err := os.Open(Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", Dir, err)
	}
	err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // no mount point yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("share the mount %s: %w", Dir, err)
	}
	return nil
}

// Delete removes a name. The namespace itself goes when the last process and
// the last open file in it are gone. ErrNotExist means that there is no such
// name; a file of that name that is no mount (left over from a crash) is removed.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := Path(name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("delete the network namespace %s: unmount %s: %w", name, path, err)
	}
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("delete %s: %w", name, ErrNotExist)
	case err != nil:
		return fmt.Errorf("delete the network namespace %s: %w", name, err)
	}
	return nil
}

// List returns the names there are, sorted.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// PIDs returns the processes whose main thread lives in a namespace, ascending.
func PIDs(nameOrPath string) ([]int, error) {
	ns, err := Open(nameOrPath)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	want, err := ns.Stat()
	if err != nil {
		return nil, fmt.Errorf("network namespace %s: %w", nameOrPath, err)
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// A process that ended meanwhile, and a kernel thread, have none.
		have, err := os.Stat("/proc/" + name + "/ns/net")
		if err == nil && os.SameFile(want, have) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}
