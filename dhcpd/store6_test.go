package dhcpd_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/uvtep/uvtep/dhcpd"
)

// leases6 are all leases of IPv6 that a segment has, by address.
func leases6(t *testing.T, s dhcpd.Store, segment uint32) []dhcpd.Lease {
	t.Helper()
	var out []dhcpd.Lease
	must(t, s.Load6(segment, func(l dhcpd.Lease) error { out = append(out, l); return nil }))
	slices.SortFunc(out, func(a, b dhcpd.Lease) int {
		if c := a.IP.Compare(b.IP); c != 0 {
			return c
		}
		return int(a.PrefixLen) - int(b.PrefixLen)
	})
	return out
}

// someLeases6 are addresses and prefixes in turn, with every field set.
func someLeases6(n int) []dhcpd.Lease {
	out := someLeases(n)
	for i := range out {
		l := &out[i]
		l.IP = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, 0, byte(i >> 8), byte(i)})
		l.IAID = uint32(i) << 8
		if i%2 == 1 {
			l.PrefixLen = 64
		}
	}
	return out
}

func TestAStoreKeepsLeasesOfIPv6ApartFromThoseOfIPv4(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases.db")
	for name, open := range map[string]func() dhcpd.Store{
		"memory": dhcpd.MemoryStore,
		"bolt":   func() dhcpd.Store { return openBolt(t, path) },
	} {
		t.Run(name, func(t *testing.T) {
			s := open()
			four, six := someLeases(300), someLeases6(300)
			six[0].State, six[1].State, six[2].CHAddr, six[3].Hostname = dhcpd.StateFree, dhcpd.StateDeclined, "", ""
			// In one transaction, and an address beside the prefix that begins with it.
			six = append(six, six[0])
			six[300].PrefixLen = 60
			all := append(puts(7, four), puts(7, six)...)
			for i := range 300 { // families and segments in turn
				all[i*2], all[599-i] = all[599-i], all[i*2]
			}
			must(t, s.Commit(append(all, puts(8, six[:1])...)))
			slices.SortFunc(six, func(a, b dhcpd.Lease) int {
				if c := a.IP.Compare(b.IP); c != 0 {
					return c
				}
				return int(a.PrefixLen) - int(b.PrefixLen)
			})
			if got := leases(t, s, 7); !slices.Equal(got, four) {
				t.Errorf("%d leases of IPv4 came back, want %d", len(got), len(four))
			}
			if got := leases6(t, s, 7); !slices.Equal(got, six) {
				t.Errorf("%d leases of IPv6 came back, want %d, the first %+v", len(got), len(six), got[0])
			}
			if four, six := leases(t, s, 8), leases6(t, s, 8); len(four) != 0 || len(six) != 1 {
				t.Errorf("another segment has %d and %d leases, want 0 and 1", len(four), len(six))
			}
			// A deletion is of the address or of the prefix, and the last change counts.
			late := six[2]
			late.Hostname = "late"
			must(t, s.Commit([]dhcpd.Change{
				{Segment: 7, Delete: true, Lease: dhcpd.Lease{IP: six[1].IP, PrefixLen: 60}},
				{Segment: 7, Delete: true, Lease: dhcpd.Lease{IP: six[2].IP, PrefixLen: six[2].PrefixLen}},
				{Segment: 7, Lease: late},
				{Segment: 9, Delete: true, Lease: dhcpd.Lease{IP: six[2].IP}},
			}))
			got := leases6(t, s, 7)
			if len(got) != 300 || got[0] != six[0] || got[1] != late {
				t.Errorf("%d leases, first %+v", len(got), got[:2])
			}
			stop := errors.New("stop")
			if err := s.Load6(7, func(dhcpd.Lease) error { return stop }); !errors.Is(err, stop) {
				t.Errorf("Load6 returns %v, want what the function returned", err)
			}
			must(t, s.Close())
		})
	}
	if got := leases6(t, openBolt(t, path), 7); len(got) != 300 {
		t.Errorf("%d leases after the file was opened again, want 300", len(got))
	}
}

func TestAFileFromBeforeIPv6OpensAndTakesItsLeases(t *testing.T) {
	path, _ := full(t, 8) // a store without the bucket, as it was written then
	s := openBolt(t, path)
	if got := leases6(t, s, 100); len(got) != 0 {
		t.Errorf("%d leases of IPv6 in a file of before", len(got))
	}
	must(t, s.Commit(puts(100, someLeases6(4))))
	must(t, s.Close())
	s = openBolt(t, path)
	if four, six := leases(t, s, 100), leases6(t, s, 100); len(four) != 8 || len(six) != 4 {
		t.Errorf("%d and %d leases, want 8 and 4", len(four), len(six))
	}
}

func TestARecordOfIPv6InAWrongPlaceIsDamage(t *testing.T) {
	l := someLeases6(2)[1]
	l.Start = l.Start.Truncate(time.Millisecond)
	for name, move := range map[string]func(key []byte) []byte{
		"another length":    func(k []byte) []byte { k[16] = 60; return k },
		"another address":   func(k []byte) []byte { k[0] = 0xfd; return k },
		"no length":         func(k []byte) []byte { return k[:16] },
		"an address of old": func(k []byte) []byte { return k[:4] },
	} {
		path := filepath.Join(t.TempDir(), "leases.db")
		s := openBolt(t, path)
		must(t, s.Commit(puts(100, []dhcpd.Lease{l})))
		must(t, s.Close())
		db, err := bolt.Open(path, 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte("leases6")).Bucket([]byte{0, 0, 0, 100})
			key, record := b.Cursor().First()
			return b.Put(move(slices.Clone(key)), slices.Clone(record))
		}))
		must(t, db.Close())
		s = openBolt(t, path)
		err = s.Load6(100, func(got dhcpd.Lease) error {
			if got != l {
				t.Errorf("%s: %+v", name, got)
			}
			return nil
		})
		if !errors.Is(err, dhcpd.ErrStoreDamaged) {
			t.Errorf("%s: %v, want damage", name, err)
		}
		must(t, s.Close())
	}
}
