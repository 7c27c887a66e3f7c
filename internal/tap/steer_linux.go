package tap

import (
	"fmt"

	"github.com/uvtep/uvtep/internal/frame"
	"golang.org/x/sys/unix"
)

// Left to itself, the kernel moves a flow to the queue that its last answer was
// written to, while frames of it still wait in another one, and two workers
// reorder it. So a program chooses the queue, by the flow alone.

// steering returns the program that chooses one of n queues as frame.QueueOf does,
// for the frames whose flows it can tell: those that have no tags, and of IPv6
// those without extension headers. All others have their queue as well, and
// always the same one.
func steering(n int) *program {
	const (
		typeAt       = 12
		dst4, src4   = frame.EthernetLen + 16, frame.EthernetLen + 12
		frag4        = frame.EthernetLen + 6
		proto4       = frame.EthernetLen + 9
		dst6, src6   = frame.EthernetLen + 24, frame.EthernetLen + 8
		proto6       = frame.EthernetLen + 6
		headerLen6   = 40
		byte1, byte2 = unix.BPF_B, unix.BPF_H
		byte4        = unix.BPF_W
	)
	p := &program{}
	p.reg(unix.BPF_MOV, r6, r1)
	p.imm(unix.BPF_MOV, r9, 0) // the ports
	// load64 sets a register to eight bytes of the packet.
	load64 := func(reg uint8, at uint32) {
		p.load(byte4, at)
		p.imm(unix.BPF_LSH, r0, 32)
		p.reg(unix.BPF_MOV, reg, r0)
		p.load(byte4, at+4)
		p.reg(unix.BPF_OR, reg, r0)
	}
	p.load(byte2, typeAt)
	p.jump(unix.BPF_JEQ, uint32(frame.TypeIPv4), "IPv4")
	p.jump(unix.BPF_JEQ, uint32(frame.TypeIPv6), "IPv6")
	srcMAC := func(reg uint8) {
		load64(reg, 4)
		p.imm(unix.BPF_LSH, reg, 16)
		p.imm(unix.BPF_RSH, reg, 16)
	}
	dstMAC := func(reg uint8) {
		load64(reg, 0)
		p.imm(unix.BPF_RSH, reg, 16)
	}
	srcMAC(r7)
	dstMAC(r8)
	p.jump(unix.BPF_JA, 0, "mix")

	p.place("IPv4")
	p.load(byte4, src4)
	p.reg(unix.BPF_MOV, r7, r0)
	p.load(byte4, dst4)
	p.reg(unix.BPF_MOV, r8, r0)
	p.load(byte2, frag4)
	p.imm(unix.BPF_AND, r0, 0x3fff)
	p.jump(unix.BPF_JNE, 0, "mix")
	p.load(byte1, frame.EthernetLen)
	p.imm(unix.BPF_AND, r0, 15)
	p.imm(unix.BPF_LSH, r0, 2)
	p.reg(unix.BPF_MOV, r9, r0)
	p.load(byte1, proto4)
	p.jump(unix.BPF_JA, 0, "ports")

	p.place("IPv6")
	for _, end := range []struct {
		reg uint8
		at  uint32
	}{{r7, src6}, {r8, dst6}} {
		load64(end.reg, end.at)
		p.constant(r1, frame.Golden)
		p.reg(unix.BPF_MUL, end.reg, r1)
		load64(r9, end.at+8)
		p.reg(unix.BPF_XOR, end.reg, r9)
	}
	p.imm(unix.BPF_MOV, r9, headerLen6)
	p.load(byte1, proto6)

	p.place("ports") // r9 is the length of the header, r0 the protocol
	p.jump(unix.BPF_JEQ, uint32(frame.ProtoTCP), "read")
	p.jump(unix.BPF_JEQ, uint32(frame.ProtoUDP), "read")
	p.imm(unix.BPF_MOV, r9, 0)
	p.jump(unix.BPF_JA, 0, "mix")
	p.place("read")
	p.loadAt(byte4, r9, frame.EthernetLen)
	p.jump(unix.BPF_JEQ, frame.FromDHCPClient, "from a DHCP client")
	p.jump(unix.BPF_JEQ, frame.ToDHCPClient, "to a DHCP client")
	p.reg(unix.BPF_MOV, r9, r0)
	p.jump(unix.BPF_JA, 0, "mix")

	p.place("from a DHCP client")
	srcMAC(r7)
	p.jump(unix.BPF_JA, 0, "client")
	p.place("to a DHCP client")
	dstMAC(r7)
	p.place("client")
	p.imm(unix.BPF_MOV, r8, 0)
	p.imm(unix.BPF_MOV, r9, 0)

	p.place("mix") // r7 and r8 are the addresses, r9 is both ports, or 0
	p.constant(r1, frame.Golden)
	p.reg(unix.BPF_MOV, r0, r9)
	p.imm(unix.BPF_RSH, r0, 16)
	p.imm(unix.BPF_AND, r9, 0xffff)
	for _, end := range []struct{ addr, port uint8 }{{r7, r0}, {r8, r9}} {
		p.reg(unix.BPF_MOV, r2, end.addr)
		p.imm(unix.BPF_RSH, r2, 32)
		p.reg(unix.BPF_XOR, end.addr, r2)
		p.imm(unix.BPF_LSH, end.addr, 16)
		p.reg(unix.BPF_XOR, end.addr, end.port)
		p.reg(unix.BPF_MUL, end.addr, r1)
		p.reg(unix.BPF_MOV, r2, end.addr)
		p.imm(unix.BPF_RSH, r2, 32)
		p.reg(unix.BPF_XOR, end.addr, r2)
	}
	p.reg(unix.BPF_MOV, r0, r7)
	p.reg(unix.BPF_ADD, r0, r8)
	p.reg(unix.BPF_MUL, r0, r1)
	_, bits := frame.Classes(n)
	p.imm(unix.BPF_RSH, r0, uint32(64-bits))
	p.imm(unix.BPF_MUL, r0, uint32(n))
	p.imm(unix.BPF_RSH, r0, uint32(bits))
	p.exit()
	return p
}

// steer has the kernel choose the queue of a frame by its flow alone.
func (d *device) steer() error {
	fd, err := steering(len(d.fds)).open("uvtep_steering")
	if err != nil {
		return err
	}
	defer unix.Close(fd) // the device holds the program
	return d.setSteering(fd)
}

// setSteering gives the device a program, none if fd is -1.
func (d *device) setSteering(fd int) error {
	if err := unix.IoctlSetPointerInt(d.fds[0], unix.TUNSETSTEERINGEBPF, fd); err != nil {
		return fmt.Errorf("set the program that chooses its queues: %w", err)
	}
	return nil
}
