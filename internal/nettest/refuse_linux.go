package nettest

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RefuseValue makes a system call fail on the calling thread, as an older kernel
// would, where its second and its third argument have these values.
func RefuseValue(t testing.TB, by unix.Errno, call, second, third uint32) {
	t.Helper()
	refuse(t, by, call, second, unix.BPF_JEQ, third)
}

// RefuseBits makes a system call fail on the calling thread, as an older kernel
// would, where its second argument has this value and its third any of bits.
func RefuseBits(t testing.TB, by unix.Errno, call, second, bits uint32) {
	t.Helper()
	refuse(t, by, call, second, unix.BPF_JSET, bits)
}

func refuse(t testing.TB, by unix.Errno, call, second uint32, how uint16, third uint32) {
	t.Helper()
	const (
		load, ret      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_RET | unix.BPF_K
		jumpEqual      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		nr, arg1, arg2 = 0, 24, 32 // offsets in struct seccomp_data, of the lower halves
	)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the filter is written for little-endian machines")
	}
	filter := []unix.SockFilter{
		{Code: load, K: nr},
		{Code: jumpEqual, K: call, Jf: 5},
		{Code: load, K: arg1},
		{Code: jumpEqual, K: second, Jf: 3},
		{Code: load, K: arg2},
		{Code: unix.BPF_JMP | how | unix.BPF_K, K: third, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(by)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		t.Fatalf("seccomp: %v", err)
	}
}
