package tap

import (
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// program is one in the making for the kernel's eBPF machine (RFC 9669), that
// reads a packet and returns a number. Its registers are 64 bits; r6 is the packet,
// and a load leaves what it read in r0 and nothing in r1 to r5.
type program struct {
	code  []byte
	jumps map[string][]int // instructions that jump to a place that is not there yet
}

const (
	r0 = iota
	r1
	r2
	r6 = iota + 3
	r7
	r8
	r9
)

const instructionLen = 8

// put appends an instruction.
func (p *program) put(op int, dst, src uint8, off int16, imm uint32) {
	regs := dst | src<<4
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		regs = dst<<4 | src // bit fields start at the other end
	}
	p.code = append(p.code, uint8(op), regs)
	p.code = binary.NativeEndian.AppendUint16(p.code, uint16(off))
	p.code = binary.NativeEndian.AppendUint32(p.code, imm)
}

// reg and imm are dst = dst op src, for unix.BPF_ADD and its like.
func (p *program) reg(op int, dst, src uint8) { p.put(unix.BPF_ALU64|unix.BPF_X|op, dst, src, 0, 0) }
func (p *program) imm(op int, dst uint8, v uint32) {
	p.put(unix.BPF_ALU64|unix.BPF_K|op, dst, 0, 0, v)
}

// constant is dst = v, which takes the room of two instructions.
func (p *program) constant(dst uint8, v uint64) {
	p.put(unix.BPF_LD|unix.BPF_IMM|unix.BPF_DW, dst, 0, 0, uint32(v))
	p.put(0, 0, 0, 0, uint32(v>>32))
}

// load reads from the packet at an offset; loadAt adds a register to that. Where
// the packet ends before it the program ends, and returns 0.
func (p *program) load(size int, at uint32) { p.put(unix.BPF_LD|unix.BPF_ABS|size, 0, 0, 0, at) }
func (p *program) loadAt(size int, reg uint8, at uint32) {
	p.put(unix.BPF_LD|unix.BPF_IND|size, 0, reg, 0, at)
}

// jump goes to a place further on, at once or for unix.BPF_JEQ and its like if
// r0 is that to v.
func (p *program) jump(op int, v uint32, place string) {
	if p.jumps == nil {
		p.jumps = map[string][]int{}
	}
	p.jumps[place] = append(p.jumps[place], len(p.code))
	p.put(unix.BPF_JMP|unix.BPF_K|op, r0, 0, 0, v)
}

// place is where the jumps to it go.
func (p *program) place(name string) {
	for _, at := range p.jumps[name] {
		off := (len(p.code)-at)/instructionLen - 1
		binary.NativeEndian.PutUint16(p.code[at+2:], uint16(off))
	}
	delete(p.jumps, name)
}

func (p *program) exit() { p.put(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0, 0) }

// open gives the program to the kernel under a name and returns a descriptor of
// it. That takes CAP_BPF, or CAP_SYS_ADMIN before Linux 5.8.
func (p *program) open(name string) (int, error) {
	license := []byte("Apache-2.0\x00")
	// The start of union bpf_attr, as BPF_PROG_LOAD has it.
	attr := struct {
		kind, count       uint32
		code, license     uint64
		logLevel, logSize uint32
		log               uint64
		kernel, flags     uint32
		name              [unix.BPF_OBJ_NAME_LEN]byte
	}{
		kind: unix.BPF_PROG_TYPE_SOCKET_FILTER, count: uint32(len(p.code) / instructionLen),
		code: uint64(uintptr(unsafe.Pointer(&p.code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(attr.name[:len(attr.name)-1], name)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&p.code[0])
	pin.Pin(&license[0])
	for {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		switch errno {
		case 0:
			return int(fd), nil // closed when another program is started, as all of its kind
		case unix.EINTR, unix.EAGAIN: // a signal came while it was checked
		default:
			return -1, os.NewSyscallError("bpf", errno)
		}
	}
}
