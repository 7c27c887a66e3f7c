package control

import (
	"cmp"
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// bind makes a listening socket that never lets anybody in whom socketMode does
// not: Linux makes the file with the mode of the socket, less the umask.
func bind(path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		outer := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) })
		return cmp.Or(outer, err)
	}}
	return lc.Listen(context.Background(), "unix", path)
}

// callerOf asks the kernel who connected.
func callerOf(conn net.Conn) (caller, bool) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return caller{}, false
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return caller{}, false
	}
	var cred *unix.Ucred
	outer := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if cmp.Or(outer, err) != nil {
		return caller{}, false
	}
	return caller{uid: cred.Uid, pid: cred.Pid}, true
}
