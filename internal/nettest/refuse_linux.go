package nettest

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Instructions of a filter.
const (
	load      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
)

// RefuseValue makes a system call fail on the calling thread, as an older kernel
// would, where its second and its third argument have these values.
func RefuseValue(t testing.TB, by unix.Errno, call, second, third uint32) {
	t.Helper()
	refuseArguments(t, by, call, second, unix.BPF_JEQ, third)
}

// RefuseBits makes a system call fail on the calling thread, as an older kernel
// would, where its second argument has this value and its third any of bits.
func RefuseBits(t testing.TB, by unix.Errno, call, second, bits uint32) {
	t.Helper()
	refuseArguments(t, by, call, second, unix.BPF_JSET, bits)
}

// RefuseCall makes a system call fail on the calling thread, whatever its
// arguments are.
func RefuseCall(t testing.TB, by unix.Errno, call uint32) {
	t.Helper()
	refuse(t, by, call)
}

func refuseArguments(t testing.TB, by unix.Errno, call, second uint32, how uint16, third uint32) {
	t.Helper()
	refuse(t, by, call,
		unix.SockFilter{Code: load, K: argument(1)},
		unix.SockFilter{Code: jumpEqual, K: second, Jf: 3},
		unix.SockFilter{Code: load, K: argument(2)},
		unix.SockFilter{Code: unix.BPF_JMP | how | unix.BPF_K, K: third, Jf: 1})
}

// argument is where struct seccomp_data has the lower half of a system call's
// argument, counted from 0.
func argument(n uint32) uint32 {
	const arguments = 16
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return arguments + 8*n + 4
	}
	return arguments + 8*n
}

// refuse makes a system call fail where the rest of a filter falls through to its
// end, and not where it jumps one further.
func refuse(t testing.TB, by unix.Errno, call uint32, where ...unix.SockFilter) {
	t.Helper()
	const nr, ret = 0, unix.BPF_RET | unix.BPF_K
	filter := append([]unix.SockFilter{{Code: load, K: nr}, {Code: jumpEqual, K: call, Jf: uint8(len(where) + 1)}}, where...)
	filter = append(filter,
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(by)},
		unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Fatalf("seccomp: %v", err)
	}
}
