package daemon_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestVLANsOfATrunkComeAndGoWhileTheOthersCarryFrames(t *testing.T) {
	w := newWorld(t)
	const file = `segments:
  - {vni: 1001, ports: [{tap: tap1}]}
  - {vni: 1002, ports: [{tap: tap2}]}
trunks: [{tap: trunk0, vlans: {101: 1001}}]
`
	both := strings.Replace(file, "{101: 1001}", "{101: 1001, 102: 1002}", 1)
	w.write(file)
	d := w.start(w.options())
	trunk, tap1, tap2 := w.guest("trunk0"), w.guest("tap1"), w.guest("tap2")
	// in is a broadcast with a number, of a station of its own in each VLAN.
	in := func(vlan byte, n uint32) []byte {
		b := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, vlan, 0x81, 0, 0, vlan, 0x88, 0xb5}
		return append(binary.BigEndian.AppendUint32(b, n), make([]byte, 42)...)
	}
	out := func(b []byte) []byte { return slices.Concat(b[:12], b[16:]) }

	ctx, cancel := context.WithCancel(t.Context())
	var passing sync.WaitGroup
	passed := make(chan struct{}) // one for each frame, to whoever wants to know
	passing.Go(func() {
		for n := uint32(1); ctx.Err() == nil; n++ {
			if err := trunk.Send(in(101, n)); err != nil {
				t.Error(err)
				return
			}
			within, done := context.WithTimeout(t.Context(), 30*time.Second)
			got, err := tap1.Receive(within)
			done()
			if err != nil || !bytes.Equal(got, out(in(101, n))) {
				t.Errorf("in place of frame %d of VLAN 101 came %x: %v", n, got, err)
				return
			}
			select {
			case passed <- struct{}{}:
			default:
			}
		}
	})
	defer passing.Wait()
	defer cancel()
	carries := func() {
		t.Helper()
		for range 2 { // the second was sent after this was called
			select {
			case <-passed:
			case <-time.After(30 * time.Second):
				t.Fatal("VLAN 101 carries nothing")
			}
		}
	}
	for n := range uint32(5) {
		carries()
		w.write(both)
		if done := must(d.Reload(t.Context()))(t); len(done.Changes) != 1 {
			t.Errorf("adding a VLAN changes %q", done.Changes)
		}
		if p := d.port(t, "trunk0.102"); p.VNI != 1002 || p.State != "up" {
			t.Errorf("the port is %+v", p)
		}
		carries()
		if err := trunk.Send(in(102, n)); err != nil {
			t.Fatal(err)
		}
		if got := must(tap2.Receive(t.Context()))(t); !bytes.Equal(got, out(in(102, n))) {
			t.Errorf("in place of frame %d of VLAN 102 came %x", n, got)
		}
		w.write(file)
		must(d.Reload(t.Context()))(t)
		if p := d.port(t, "trunk0.102"); p.Name != "" {
			t.Errorf("there is still %+v", p)
		}
	}
	carries()
	if n := w.opened("trunk0"); n != 1 {
		t.Errorf("the TAP was opened %d times", n)
	}
}
