package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// errExited is what Do returns for an fn that ended its goroutine, as the
// testing package's FailNow does.
var errExited = errors.New("the function ended its goroutine")

// Open opens a namespace. As long as the file is open the namespace exists.
// ErrNotExist and ErrNotNamespace say what is wrong with the name or path.
func Open(nameOrPath string) (*os.File, error) {
	if nameOrPath == "" {
		return nil, fmt.Errorf("%q: %w", nameOrPath, ErrName)
	}
	path := Path(nameOrPath)
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w", nameOrPath, ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("network namespace %s: %w", nameOrPath, err)
	}
	// setns would say EINVAL to any file; ask the file what it is.
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, ErrNotNamespace)
	}
	return f, nil
}

// Do calls fn on a thread that is in the namespace, and returns its error.
//
// fn runs on a goroutine of its own that is locked to its thread. Sockets that
// it opens and processes that it starts belong to the namespace for good and
// may be used from anywhere afterwards; goroutines that it starts do not run
// inside. The thread is put back where it came from, or, where that fails,
// ends, so that nobody meets a thread in a foreign namespace.
func Do(nameOrPath string, fn func() error) error {
	ns, err := Open(nameOrPath)
	if err != nil {
		return err
	}
	defer ns.Close()
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w", nameOrPath, err)
		}
		return fn()
	})
}

// onThread calls fn on a locked thread and puts the thread back into the
// network namespace that it had.
func onThread(fn func() error) error {
	err := errExited
	onSideThread(func() {
		home, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			err = openErr
			runtime.UnlockOSThread()
			return
		}
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = fn()
	})
	return err
}

// onSideThread calls fn on a goroutine that is locked to a thread, and waits
// for it. Unless fn unlocks the thread it ends with the goroutine. It is never
// the process's first thread: that one cannot end, and is what the rest of the
// system takes for the process's namespace.
func onSideThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			onSideThread(fn) // cannot land here: this thread is taken while we wait
			return
		}
		fn()
	}()
	<-done
}

// Start starts cmd inside a namespace, as "ip netns exec" does: with a mount
// namespace of its own in which /sys shows the interfaces that it has, and the
// mounts of the outside keep coming in. The caller calls cmd.Wait.
func Start(nameOrPath string, cmd *exec.Cmd) error {
	ns, err := Open(nameOrPath)
	if err != nil {
		return err
	}
	defer ns.Close()
	// A thread with a mount namespace of its own cannot be put back, as it no
	// longer shares the file system context of the others: it stays locked, and
	// so ends here.
	onSideThread(func() {
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("enter the network namespace %s: %w", nameOrPath, err)
			return
		}
		if err = ownSys(); err != nil {
			err = fmt.Errorf("start %s in the network namespace %s: %w", cmd.Path, nameOrPath, err)
			return
		}
		err = cmd.Start()
	})
	return err
}

// ownSys gives the calling thread a mount namespace whose /sys is that of its
// network namespace.
func ownSys() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make the mounts slaves: %w", err)
	}
	// A container that hides parts of /sys is not allowed a fresh one; there
	// the program has to do with the one of its caller.
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil &&
		!errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("mount /sys: %w", err)
	}
	return nil
}
